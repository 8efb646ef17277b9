"""A search as a study of Optuna on disk: it is shared by workers, goes on after a kill, and scores equal candidates once.

study = open_study(path, space, sampler)
run(study, space, score, budget)       # score(trial, point) -> the value; smaller is better
"""

import contextlib
import hashlib
import itertools
import json
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution, distribution_to_json
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from nlpft import config
from nlpft.data import store
from nlpft.errors import ConfigError, Interrupted, TrainingError
from nlpft.files import locked, write_text
from nlpft.samplers._dimensions import COPY, Point, Space

optuna.logging.set_verbosity(optuna.logging.WARNING)  # what a search says is up to who runs it

NAME = "search"  # of the one study in a file
SPACE, CAUSE = "space", "cause"  # attributes of a study, and of its trials
DATABASES = (".db", ".sqlite", ".sqlite3")
ALL_FAILED = 10  # trials that failed, and no other: then nothing will ever be scored
CIRCLES = 100  # equal candidates one behind the other: then nothing new is to come

MOST_COUNTED = 10_000  # points of a space that are gone through to count those that differ

Score = Callable[[Trial, Point], float]
Form = Callable[[Point], Point]
SCORED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class Found(NamedTuple):
    """What a search came to."""

    best: FrozenTrial
    scored: int  # candidates, those that failed or were pruned included
    copies: int  # trials that were equal to an earlier one, and cost nothing
    why: str  # it ended


def size(space: Space) -> float:
    """Number of points in a space; inf where a dimension is continuous."""
    return math.prod(map(_values, space.values()))


def check(space: Space, budget: int, least: int = 1) -> None:
    """Raise ConfigError for a space that leaves nothing to search, and for a budget below `least`."""
    if not space:
        raise ConfigError("the search space is empty; name at least one dimension")
    if size(space) < 2:
        raise ConfigError(f"the search space has one point ({', '.join(space)}): there is nothing to search")
    if budget < least:
        raise ConfigError(
            f"budget {budget}: this search needs at least {least} candidates; raise it or lower its settings"
        )


def open_study(
    path: Path | None,
    space: Space,
    sampler: BaseSampler,
    pruner: BasePruner | None = None,
    direction: Literal["minimize", "maximize"] = "minimize",
) -> Study:
    """The study in file `path`, new or as it was left: SQLite for .db, else a journal of lines; None: in memory.

    Raises ConfigError where the file holds a search of another space or direction, or no study.
    """
    try:
        with locked(path) if path else contextlib.nullcontext():  # two that make the tables at once fail
            study = optuna.create_study(
                storage=_storage(path) if path else None,
                sampler=sampler,
                pruner=pruner or NopPruner(),
                study_name=NAME,
                direction=direction,
                load_if_exists=True,
            )
    except Exception as error:  # each storage has its own kinds
        raise ConfigError(f"{path}: cannot be opened as a study ({error}); name another file") from error
    _claim(study, space, path, direction)
    return study


def keep_settings(settings: Any, free: Sequence[str], data: Mapping[str, Path] | None = None) -> None:
    """Write a recipe's settings beside the study, into config.yaml of its output_dir, and what data they name, into data.json.

    data: dataset folders by the settings' keys; compared by fingerprint, as another dataset may come to lie in the same folder.
    Raises ConfigError where the study was begun with others, but for settings whose key begins with one of `free`.
    """
    file, beside = settings.output_dir / "config.yaml", settings.output_dir / "data.json"
    contents = {key: _fingerprint(folder) for key, folder in (data or {}).items()}
    if file.exists():
        config.check_same(config.load(type(settings), file), settings, free)
        _check_data(json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else {}, contents, data or {})
        return
    write_text(beside, json.dumps(contents, indent=2) + "\n")
    write_text(file, config.dump(settings))


def _fingerprint(folder: Path) -> str | None:
    """What tells a dataset's contents apart; `datasets` writes one too."""
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return store.info(folder).get("fingerprint") or state.get("_fingerprint")


def _check_data(before: dict[str, Any], now: dict[str, Any], folders: Mapping[str, Path]) -> None:
    other = next((name for name in now if before.get(name) != now[name]), None)
    if other is not None:
        raise ConfigError(
            f"{other} {folders[other]}: not the dataset that this search began with (fingerprint {before.get(other)} then, "
            f"{now[other]} now), for which alone its scores hold: choose another output_dir"
        )


class Seen:
    """What a study holds of candidates, by their values; each trial is read once."""

    def __init__(self, space: Space, form: Form = dict) -> None:
        self.space, self.form = space, form
        self.known: dict[Any, FrozenTrial] = {}  # those that were scored, or pruned
        self.scored: set[int] = set()  # numbers of the trials that spent budget
        self.copies = 0
        self.read: set[int] = set()

    def update(self, study: Study) -> int:
        """Read what is new; returns how many candidates were scored. A trial that was cut off counts for nothing."""
        for trial in study.get_trials(deepcopy=False, states=SCORED):
            if trial.number not in self.read:
                self.read.add(trial.number)
                self._add(trial)
        return len(self.scored)

    def _add(self, trial: FrozenTrial) -> None:
        if COPY in trial.user_attrs:
            self.copies += 1
        elif trial.state != TrialState.FAIL or CAUSE in trial.user_attrs:
            self.scored.add(trial.number)
        if trial.state != TrialState.FAIL and self.space.keys() <= trial.params.keys():
            self.known.setdefault(self.key(trial.params), trial)

    def key(self, point: Point) -> Any:
        """Equal for candidates that are scored once."""
        return tuple(sorted(self.form({name: point[name] for name in self.space}).items()))


def run(study: Study, space: Space, score: Score, budget: int, form: Form = dict) -> Found:
    """Score candidates until the study has `budget` of them, or none is left; what it has already is counted.

    form: what of a candidate decides its score, where that is not all of it. A candidate whose form was scored before, in this or
    another worker, takes that value and costs nothing. A trial that fails is recorded with its cause, and the search goes on. Of
    several workers each ends the trial that it has in hand, so that there may be as many more than `budget`. Raises TrainingError
    with the first cause where nothing but failures comes.
    """
    circles, why, seen = 0, "the budget is spent", Seen(space, form)
    whole = _distinct(space, seen)
    while seen.update(study) < budget:
        if len(seen.known) >= whole:
            why = "all points of the space are scored"
            break
        if circles >= CIRCLES:
            why = f"the search proposed nothing new {CIRCLES} times"
            break
        copied = _one(study, space, score, seen)
        circles = circles + 1 if copied else 0
        _check_failures(study)
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not done:
        raise TrainingError(f"no candidate was scored to its end ({why}); first cause: {_first_cause(study)}")
    return Found(study.best_trial, len(seen.scored), seen.copies, why)


def point_of(trial: Trial, space: Space) -> Point:
    """The candidate of a trial: a value for each dimension."""
    return {name: trial._suggest(name, dimension) for name, dimension in space.items()}


def results(study: Study) -> list[FrozenTrial]:
    """The scored candidates, best first, each once."""
    done = [t for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if COPY not in t.user_attrs]
    return sorted(done, key=lambda t: (_sign(study) * (t.value or 0.0), t.number))


def table(study: Study) -> dict[str, list[dict[str, Any]]]:
    """For a result's JSON: the scored `candidates`, best first, and those that were `pruned`, in their order; each once.

    Each says its loss (a pruned one its last, and at which `step`), its seconds, its trial's attribute `trained`, and its values.
    """
    ended = study.get_trials(deepcopy=False, states=(TrialState.PRUNED,))
    pruned = [trial for trial in ended if COPY not in trial.user_attrs]
    return {
        "candidates": [_row(trial) for trial in results(study)],
        "pruned": [_row(trial, step=trial.last_step) for trial in pruned],
    }


def _row(trial: FrozenTrial, **more: Any) -> dict[str, Any]:
    seconds = trial.duration.total_seconds() if trial.duration else None
    told = {"loss": trial.value, **more, "seconds": seconds, "trained": trial.user_attrs.get("trained")}
    return {**told, **trial.params}


def once(folder: Path, what: Any, make: Callable[[], Any]) -> Any:
    """`make()`, which JSON can hold, of `what`, which says all that decides it: kept in `folder`, and made once only."""
    told = json.dumps(what, sort_keys=True)
    file = folder / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.json"
    if not file.exists():
        value = make()
        folder.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps({"of": what, "value": value}, indent=2) + "\n")
    return json.loads(file.read_text(encoding="utf-8"))["value"]


def _one(study: Study, space: Space, score: Score, seen: Seen) -> bool:
    """Ask for a candidate and tell its value; returns whether it was a copy."""
    trial = study.ask()
    point = point_of(trial, space)
    seen.update(study)
    twin = seen.known.get(seen.key(point))
    if twin is not None:
        trial.set_user_attr(COPY, twin.number)
        if twin.state == TrialState.COMPLETE:
            study.tell(trial, twin.value)
        else:
            study.tell(trial, state=TrialState.PRUNED)
        return True
    try:
        value = _finite(score(trial, point))
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except (Interrupted, KeyboardInterrupt):
        study.tell(trial, state=TrialState.FAIL)
        raise
    except Exception as error:  # noqa: BLE001 - whatever a candidate dies of, the others may live
        trial.set_user_attr(CAUSE, f"{type(error).__name__}: {error}")
        trial.set_user_attr("traceback", traceback.format_exc(limit=-5))
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, value)
    return False


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise TrainingError(f"its score is {value}")
    return value


def _check_failures(study: Study) -> None:
    done = study.get_trials(deepcopy=False, states=SCORED)
    failed = [t for t in done if CAUSE in t.user_attrs]
    if len(failed) >= ALL_FAILED and len(failed) == len(done):
        raise TrainingError(f"all of the first {len(done)} candidates failed; the first one: {_first_cause(study)}")


def _first_cause(study: Study) -> str:
    found = (t.user_attrs[CAUSE] for t in study.get_trials(deepcopy=False) if CAUSE in t.user_attrs)
    return next(found, "none failed; all were pruned")


def _sign(study: Study) -> int:
    return -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1


def _distinct(space: Space, seen: Seen) -> float:
    """Number of points that are scored once; where they are too many to count, that of all points."""
    if seen.form is dict or size(space) > MOST_COUNTED:
        return size(space)
    values = [d.choices if isinstance(d, CategoricalDistribution) else _grid(d) for d in space.values()]
    return len({seen.key(dict(zip(space, found, strict=True))) for found in itertools.product(*values)})


def _grid(dimension: Any) -> list[Any]:
    step = dimension.step or 1  # of one value
    return [dimension.low + number * step for number in range(int(_values(dimension)))]


def _values(dimension: Any) -> float:
    """Number of values of a dimension."""
    if isinstance(dimension, CategoricalDistribution):
        return len(dimension.choices)
    if dimension.single():
        return 1
    if isinstance(dimension, FloatDistribution) and dimension.step is None:
        return math.inf
    assert isinstance(dimension, (IntDistribution, FloatDistribution))
    return round((dimension.high - dimension.low) / (dimension.step or 1)) + 1


def _storage(path: Path) -> BaseStorage:
    """What keeps a study in a file, which several processes may write to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in DATABASES:
        return RDBStorage(f"sqlite:///{path.absolute()}", engine_kwargs={"connect_args": {"timeout": 100}})
    # the lock by an exclusive file works where symbolic links do not
    return JournalStorage(JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path))))


def _claim(study: Study, space: Space, path: Path | None, direction: str) -> None:
    """Write into the study what it searches. Raises ConfigError where it searches something else."""
    own = {name: json.loads(distribution_to_json(dimension)) for name, dimension in sorted(space.items())}
    theirs = study.user_attrs.get(SPACE)
    if theirs is None:
        study.set_user_attr(SPACE, own)
    elif theirs != own:
        differing = sorted(name for name in own.keys() | theirs.keys() if own.get(name) != theirs.get(name))
        raise ConfigError(
            f"{path}: holds a search of another space (it differs in {', '.join(differing[:5])}); name another file, "
            "or go on with the old space"
        )
    if study.direction.name.lower() != direction:
        raise ConfigError(f"{path}: holds a search that is to {study.direction.name.lower()}; name another file")
