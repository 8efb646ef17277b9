"""What a run folder holds, read once: settings, environment, data, metrics, and its evaluations against the base model's."""

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from nlpft.config import flatten
from nlpft.data import provenance
from nlpft.errors import DataError, UserError
from nlpft.evaluation import answers, compare, items, pairs, tables
from nlpft.evaluation.comparison import Comparison
from nlpft.evaluation.items import Evaluation, Pair
from nlpft.evaluation.report import heads, metrics, parameters
from nlpft.evaluation.report.heads import HeadScores
from nlpft.evaluation.report.metrics import Metrics
from nlpft.evaluation.report.parameters import Block
from nlpft.rundir import RunDir

BASE = "base"  # name of the evaluation that the others are compared with
ITEMS = 12  # shown for each evaluation: as many written answers, and as many choices that changed


class Item(NamedTuple):
    """One item of an evaluation as it is shown."""

    task: str
    own: bool  # the user's data, not a benchmark's
    source: str
    change: str  # gained, lost, same score
    prompt: list[tuple[str, str]]  # (role, text)
    expected: str
    answers: list[str]  # of base and other
    marks: list[str]  # how either scores


class Versus(NamedTuple):
    """One evaluation against the base model's."""

    label: str
    error: str = ""  # why there is no comparison; then the rest is empty
    subjects: Sequence[str] = ()  # the model and, where it is on its own base, the adapter
    comparisons: Sequence[Comparison] = ()
    notes: Sequence[str] = ()
    faults: Sequence[str] = ()  # those of the notes that make the comparisons worthless, or fewer
    written: Sequence[Item] = ()  # answers in the model's own words
    flipped: Sequence[Item] = ()  # choices among given answers that changed

    @property
    def model(self) -> str:
        """What was evaluated, by name."""
        return " + ".join(self.subjects)

    @property
    def retained(self) -> int:
        """Comparisons that show what was forgotten."""
        return sum(c.retention for c in self.comparisons)


@dataclass(frozen=True)
class Run:
    """What is known of a run."""

    folder: RunDir
    config: str  # config.yaml
    environment: dict[str, Any]  # by dotted key
    data: dict[str, Any]  # split -> what data.json says of it
    metrics: Metrics
    others: Sequence[Versus]
    scores: Sequence[tuple[str, str, str, float]]  # evaluation, task, metric, value
    failed: Sequence[tuple[str, str, str]]  # evaluation, task, why
    blocks: Sequence[Block]
    heads: Sequence[HeadScores] = ()  # evaluations of a head
    gaps: Sequence[Any] = ()  # between groups, where they were asked for: groups.Gaps
    maps: Sequence[Any] = ()  # of features, where they were asked for: embeddings.Map
    attributed: Sequence[Any] = ()  # rows with what their tokens add, where it was asked for: attributed.Attributed

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def settings(self) -> dict[str, Any]:
        """By dotted key. Raises DataError where config.yaml is damaged."""
        try:
            found = yaml.safe_load(self.config) or {}
        except yaml.YAMLError as error:
            raise DataError(f"{self.folder.config}: not YAML ({error}); mend or delete it") from error
        return flatten(found) if isinstance(found, dict) else {}

    @property
    def has_head(self) -> bool:
        """Whether the run trained a head, which is not compared with its base: that has none."""
        return bool(self.heads) or any(key.startswith("head.") for key in self.settings)

    @property
    def targets(self) -> str:
        """What its losses are of."""
        return "targets" if self.has_head else "tokens"

    @property
    def evaluated(self) -> list[str]:
        """Labels of its evaluations that could be read."""
        return list(dict.fromkeys(label for label, *_ in self.scores))


def read(path: Path, settings: compare.Settings = compare.DEFAULT, families: int = 1) -> Run:
    """The run in `path`, of `families` that stand under one correction.

    Raises UserError where it is no run folder, DataError where a file in it is damaged.
    """
    run = RunDir(path)
    if not any(p.exists() for p in (run.config, run.metrics, run.eval)):
        raise UserError(
            f"{path}: no run folder, it has neither config.yaml nor metrics.jsonl nor eval/; "
            "name the folder that was given as --output_dir"
        )
    return Run(
        folder=run,
        config=run.config.read_text(encoding="utf-8", errors="replace") if run.config.exists() else "",
        environment=flatten(_json(run.environment), "."),
        data=_data(run.data),
        metrics=metrics.read(run.metrics),
        others=evaluations(run.eval, settings, families),
        scores=list(_scores(run.eval)),
        failed=list(_failed(run.eval)),
        blocks=parameters.by_block(run),
        heads=heads.read(run.eval, run.model, compared=(run.eval / BASE).is_dir()),
    )


def evaluations(folder: Path, settings: compare.Settings = compare.DEFAULT, families: int = 1) -> list[Versus]:
    """Each evaluation in `folder` against the one called base, by label; none where there is no such one.

    One correction covers them all; one that cannot be compared says why, and keeps no other from being so.
    """
    if not (folder / BASE).is_dir():
        return []
    paths = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name != BASE]
    found = {path.name: _comparable(folder / BASE, path, settings) for path in paths}
    both = {label: pair for label, pair in found.items() if isinstance(pair, tuple)}
    if both:
        base = next(iter(both.values()))[0]
        known = {
            task for pair in both.values() for e in pair for task in (*(t for t, _ in e.samples), *e.groups.values())
        }
        asked = tuple(task for task in settings.retention if task in known)
        others = [other for _, other in both.values()]
        made = compare.compare_all(base, others, _with(settings, asked), families)
        compared = dict(zip(both, made, strict=True))
    return [
        _versus(label, *pair, compared[label]) if isinstance(pair, tuple) else Versus(label, pair)
        for label, pair in found.items()
    ]


def _with(settings: compare.Settings, retention: tuple[str, ...]) -> compare.Settings:
    """`settings` for one of several runs, which need not all have been asked the same."""
    names = ("confidence", "by_group", "cluster", "resamples", "seed")
    return compare.Settings(retention=retention, **{name: getattr(settings, name) for name in names})


def _comparable(base: Path, path: Path, settings: compare.Settings) -> tuple[Evaluation, Evaluation] | str:
    """Both evaluations, or why they cannot be compared."""
    try:
        before, after = items.read(base), items.read(path)
        list(pairs.paired(before, after, settings.cluster))
    except DataError as error:
        return str(error)
    return before, after


def _versus(label: str, base: Evaluation, other: Evaluation, made: Sequence[Comparison]) -> Versus:
    about = other.results.get("nlpft", {})
    subjects = [str(about[key]) for key in ("model", "adapter") if about.get(key)]
    written, flipped = shown_items(base, other, made)
    return Versus(label, "", subjects, made, compare.notes(base, other), compare.faults(base, other), written, flipped)


def shown_items(base: Evaluation, other: Evaluation, made: Sequence[Comparison]) -> tuple[list[Item], list[Item]]:
    """(written, flipped): up to ITEMS answers in the models' own words, and as many choices that turned right or wrong.

    Of each task those that changed come first, gained and lost by turns; of choices, no others are shown.
    """
    kinds: tuple[list[tuple[Comparison, Any]], list[tuple[Comparison, Any]]] = ([], [])
    for c in tables.one_a_task(made):
        gained, lost = compare.flips(base, other, c.task, c.metric, c.filter)
        changed = chain(
            *zip_longest(zip(repeat("gained"), gained, strict=False), zip(repeat("lost"), lost, strict=False))
        )
        ids = {id(row) for row, _ in (*gained, *lost)}
        tasks = [(c.task, c.filter)] if (c.task, c.filter) in other.samples else []
        same = (
            ("same score", pair)
            for key in tasks
            for pair in pairs.pairs_of(base, other, *key)
            if id(pair[0]) not in ids
        )
        first = next(iter((*gained, *lost)), None) or next((pair for _, pair in same), None)
        if first and c.metric in first[1] and answers.written(first[1]) is not None:
            kinds[0].append((c, chain(filter(None, changed), same)))
        elif first and answers.chosen(first[1], c.metric) is not None:
            kinds[1].append((c, filter(None, changed)))
    written, flipped = (
        [_item(c, *one) for c, of in kind for one in islice(of, max(1, ITEMS // len(kind)))] for kind in kinds
    )
    return sorted(written[:ITEMS], key=lambda item: not item.own), flipped[:ITEMS]


def _item(c: Comparison, change: str, pair: Pair) -> Item:
    asked = pair[1]
    doc = asked.get("doc")
    return Item(
        task=asked["task"],
        own=isinstance(doc, dict) and "messages" in doc,
        source=answers.source(asked),
        change=change,
        prompt=answers.prompt(asked),
        expected=answers.expected(asked),
        answers=[answers.clip(answers.answer(row, c.metric) or "") for row in pair],
        marks=answers.marks(pair, c.metric, c.binary),
    )


def _scores(folder: Path) -> Any:
    """(evaluation, task, metric, value) of every results.json; one that is damaged has none, its comparison says so."""
    for path in sorted(folder.glob("*/results.json")):
        try:
            found = items.results(path.parent).get("results") or {}
        except DataError:
            continue
        for task, values in found.items():
            for key, value in values.items() if isinstance(values, dict) else ():
                if isinstance(value, int | float) and math.isfinite(value) and "," in key and "_stderr" not in key:
                    yield path.parent.name, task, key.replace(",none", "").replace(",", ", ").replace("_", " "), value


def asked(folder: Path) -> set[str]:
    """Names of the tasks, and of their groups, that have scores in the evaluations in `folder`."""
    found: set[str] = set()
    for path in sorted(folder.glob("*/results.json")):
        with contextlib.suppress(DataError):  # its comparison says so
            evaluation = Evaluation(path.parent, items.results(path.parent), {})
            tasks = set(evaluation.results.get("results") or {})
            found |= tasks | {group for task, group in evaluation.groups.items() if task in tasks}
    return found


def _failed(folder: Path) -> Iterator[tuple[str, str, str]]:
    """(evaluation, task, why) of every results.json; a damaged one tells nothing."""
    for path in sorted(folder.glob("*/results.json")):
        try:
            errors = Evaluation(path.parent, items.results(path.parent), {}).errors
        except DataError:
            continue
        yield from ((path.parent.name, task, why) for task, why in errors.items())


def _data(path: Path) -> dict[str, dict[str, Any]]:
    """data.json, whose counts are counts."""
    found = _json(path)
    try:
        for said in found.values():
            for outcomes in provenance.outcomes({**said}):
                sum([outcomes.rows_read, *outcomes.counts.values()])
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: damaged ({error!r}); delete it, the page says then that it is missing") from error
    return found


def _json(path: Path) -> Any:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}; delete it, the page says then that it is missing") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: not an object; delete it, the page says then that it is missing")
    return found
