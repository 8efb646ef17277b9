"""A whole run of a recipe, as settings that a search puts together: begun in this process, watched, and its weights removed."""

import contextlib
import dataclasses
import gc
import hashlib
import importlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from nlpft import config
from nlpft.data import store
from nlpft.errors import ConfigError, TrainingError
from nlpft.files import write_text
from nlpft.samplers._dimensions import Point
from nlpft.search import ranges
from nlpft.training import preflight
from nlpft.training.settings import RunConfig
from nlpft.training.watching import Watch, watched

Cost = Callable[[Path, str], float]
FREE = ("output_dir", "resume", "trackers", "data.test")  # settings that decide nothing of what a run comes to


class Recipe:
    """A recipe that trains, and the settings that all of its runs begin from; `flat`: those by dotted key."""

    def __init__(self, name: str, settings: Path) -> None:
        """name: of a recipe, or a .py file. Raises ConfigError where it is none that trains, or the settings are not its."""
        if name.endswith(".py"):
            sys.path.insert(0, str(Path(name).parent.absolute()))
        try:
            self.module: ModuleType = importlib.import_module(Path(name).stem)
        except ImportError as error:
            raise ConfigError(f"recipe {name}: cannot be imported ({error}); nlpft list shows the recipes") from error
        self.cls: type = getattr(self.module, "Config", object)
        if not issubclass(self.cls, RunConfig):
            raise ConfigError(f"recipe {name}: no recipe of one training; take classify, tag, sft or pretrain")
        self.file = settings
        self.base: Any = config.parse(self.cls, ["--config", str(settings)])
        self.flat = config.flat(self.base)
        self.plug_ins = [field.name for field in dataclasses.fields(self.cls) if "kind" in field.metadata]

    @property
    def tests_itself(self) -> bool:
        """Whether its runs score data.test at their end; else they can score data.eval only."""
        return hasattr(self.base.data, "test")

    @property
    def measure(self) -> str:
        """Name of the measure by which the best weights of a run are chosen."""
        return getattr(self.base, "best", "loss")

    def placed(self, test: Path | None) -> Point:
        """The settings under which a run scores `test`, or no such data."""
        if self.tests_itself:
            return {"data.test": str(test) if test else None}
        return {"data.eval": str(test), "patience": 0} if test else {}

    def facts(self) -> dict[str, Any]:
        """All that the runs of a search have in common and that decides what they come to: settings, and data by contents."""
        data = {f"contents of data.{name}": contents(getattr(self.base.data, name)) for name in ("train", "eval")}
        return {name: value for name, value in self.flat.items() if name not in FREE} | data

    def keep(self, file: Path, scores: Path) -> None:
        """Write `facts` into `file`. Raises ConfigError, naming what differs, where others are there already.

        scores: a file that is not to be there without `file`, for nobody would know by which settings they came.
        """
        if scores.exists() and not file.exists():
            raise ConfigError(f"{scores}: does not say by which settings its scores came; choose another --output_dir")
        now = json.loads(json.dumps(self.facts(), default=str))
        before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else now
        changed = config.differences(before, now)
        if changed:
            raise ConfigError(
                f"{file.parent}: was begun with other settings or data, and its scores hold for those; choose another "
                "--output_dir. These differ:\n" + "\n".join(changed)
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(now, indent=2) + "\n")

    def write(self, file: Path, point: Point) -> Path:
        """The settings of a candidate, as YAML that the recipe takes by --config."""
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, ranges.document(self.flat, point, self.plug_ins))
        return file

    def settings(self, file: Path, point: Point) -> Any:
        """The settings of a candidate, written to `file` and checked. Raises ConfigError for a value that the recipe refuses."""
        return config.load(self.cls, self.write(file, point))

    def preflight(self, test: Path) -> None:
        """Raise UserError where a run of the settings as given, or its score on `test`, would fail before its first step.

        What is asked is the recipe's own `check` of its settings, where it has one, else training/preflight.py.
        """
        data = self.base.data
        if data.eval is None:
            raise ConfigError(f"{self.file}: set data.eval, by which the search is led")
        if test.resolve() in {Path().resolve(), data.train.resolve(), data.eval.resolve()}:
            raise ConfigError(f"test {test}: set it to data that the search does not see as data.train or data.eval")
        if self.flat.get("text.files"):
            raise ConfigError(
                f"{self.file}: text.files: each run would convert them anew; nlpft convert, and set data.train"
            )
        check = getattr(self.module, "check", preflight.check)
        with tempfile.TemporaryDirectory() as folder:
            for own in ({}, self.placed(test)):
                check(self.settings(Path(folder) / "settings.yaml", own))

    def check(self, points: Iterable[Point]) -> None:
        """Raise ConfigError for a candidate with a value that the recipe refuses."""
        with tempfile.TemporaryDirectory() as folder:
            for point in points:
                self.settings(Path(folder) / "settings.yaml", point)


def contents(folder: Path) -> str:
    """What tells the contents of a dataset apart: its fingerprint or, where nlpft has not written it, that of its files."""
    told = store.info(folder).get("fingerprint")
    if told:
        return str(told)
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        with file.open("rb") as stream:
            digest.update(f"{file.relative_to(folder)} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def trained(
    recipe: Recipe,
    folder: Path,
    point: Point,
    seed: int,
    cost: Cost,
    test: Path | None = None,
    watch: Watch | None = None,
) -> float:
    """What a run of `point` with `seed` comes to, less is better: its best evaluation or, with `test`, its score there.

    cost: of a run's folder and a measure's name, the measure on data.test. test: the weights that are best on data.eval are
    scored; of a recipe that scores no data.test, by a second run, which is the first one but for what it is evaluated on.
    folder: this call's alone; what is there is removed. What the run says is kept beside it, as FOLDER.log, and its settings as
    FOLDER.yaml; weights are removed.
    """
    own = {**point, "output_dir": str(folder), "seed": seed}
    with _emptied(folder):
        best = _run(recipe, folder, {**own, **(recipe.placed(test) if recipe.tests_itself else {})}, watch)
        if test and recipe.tests_itself:
            return cost(folder, recipe.measure)
    if best.step is None:
        raise TrainingError("the run has no evaluation; set data.eval")
    if test is None:
        return float(best.loss)
    with _emptied(folder):
        return _score_at(best.step, recipe, folder, {**own, **recipe.placed(test)})


class _Reached(Exception):
    """A run has come to the step that was waited for; its argument: the evaluation there."""


def _score_at(step: int, recipe: Recipe, folder: Path, settings: Point) -> float:
    """The evaluation at `step` of a run, which ends there. Raises TrainingError where it has none."""

    def watch(now: int, whole: int, low: float) -> None:
        if now == step:
            raise _Reached(low)

    try:
        _run(recipe, folder, settings, watch)
    except _Reached as reached:
        return float(reached.args[0])
    raise TrainingError(f"the run told no evaluation of step {step}, the best one of the same run on data.eval")


def _run(recipe: Recipe, folder: Path, settings: Point, watch: Watch | None) -> Any:
    run = recipe.settings(folder.with_suffix(".yaml"), settings)
    with _said(folder.with_suffix(".log")), watched(watch) if watch else contextlib.nullcontext():
        return recipe.module.main(run)


@contextlib.contextmanager
def _emptied(folder: Path) -> Iterator[None]:
    """Before it `folder` is removed, which a run that was killed may have left, and behind it too."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if torch.cuda.is_available():
            gc.collect()  # a model and its optimiser refer to each other, and the next run needs the room
            torch.cuda.empty_cache()


@contextlib.contextmanager
def _said(file: Path) -> Iterator[None]:
    """Within it all that is printed goes to `file`."""
    with file.open("a", encoding="utf-8") as out, contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        yield
