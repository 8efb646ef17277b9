"""Evaluation folders read back: lm-evaluation-harness's layout. Loads no torch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nlpft.errors import DataError
from nlpft.evaluation.finite import failures

Row = dict[str, Any]  # one line of samples_TASK.jsonl
Pair = tuple[Row, Row]  # one item as base and other answered it

# What lm-eval logs for one item under these names is its log-likelihood, or [log-likelihood, number of words or bytes]. Here
# its negative is compared, in nats: the logarithm of the metric, and smaller is better as it is for the metric itself.
LOG = "log, nats"
LOG_LIKELIHOODS = {"perplexity": LOG, "word_perplexity": LOG, "byte_perplexity": LOG, "bits_per_byte": "nats"}


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation folder holds."""

    folder: Path
    results: dict[str, Any]  # results.json
    samples: dict[tuple[str, str], dict[int, Row]]  # (task, filter) -> doc_id -> line of samples_TASK.jsonl

    @property
    def label(self) -> str:
        """The name that tables give it."""
        return str(self._about.get("label") or self.folder.resolve().name)

    def higher_is_better(self, task: str, metric: str) -> bool:
        """As results.json says; where it says nothing, losses are better when low and everything else when high."""
        if metric == "loss" or metric in LOG_LIKELIHOODS:
            return False
        said = (self.results.get("higher_is_better", {}).get(task) or {}).get(metric)
        return True if said is None else bool(said)

    def reported(self, task: str, filter_: str) -> dict[str, float]:
        """The scores of a task in results.json, by metric."""
        values = (self.results.get("results") or {}).get(task) or {}
        parts = [(*key.partition(","), value) for key, value in values.items()]
        return {
            metric: float(value)
            for metric, comma, of, value in parts
            if comma and of == filter_ and isinstance(value, int | float) and not metric.endswith("_stderr")
        }

    @property
    def groups(self) -> dict[str, str]:
        """The group of a task, by task: the outermost of lm-eval's own, or what its file says by `metadata: {group: NAME}`."""
        children: dict[str, list[str]] = self.results.get("group_subtasks") or {}
        inner = {child for names in children.values() for child in names}
        outer = [group for group in children if children[group] and group not in inner]
        said = {task: str(of["group"]) for task, of in self._metadata.items() if of.get("group")}
        return said | {task: group for group in outer for task in _leaves(group, children)}

    @cached_property
    def errors(self) -> dict[str, str]:
        """Why a task failed, by task: as `nlpft eval` noted it, or as its numbers show that are none."""
        rows: dict[str, list[Row]] = {}
        for (task, _), of in self.samples.items():
            rows.setdefault(task, []).extend(of.values())
        return failures(self.results.get("results") or {}, rows) | self._about.get("errors", {})

    @property
    def unparsed(self) -> dict[str, int]:
        """Answers in which no label, tags or result were found, by "task,filter" or "task,metric"; they count as wrong."""
        found: dict[str, int] = self._about.get("unparsed", {})
        return found

    @property
    def inactive(self) -> bool:
        """Whether `nlpft eval` found that the adapter changes nothing."""
        return bool(self._about.get("inactive"))

    @property
    def retained(self) -> set[str]:
        """Tasks whose file says `metadata: {retention: true}`: they show what was forgotten."""
        return {task for task, of in self._metadata.items() if of.get("retention")}

    @property
    def _about(self) -> dict[str, Any]:
        """What `nlpft eval` says of it beside lm-eval's own."""
        return self.results.get("nlpft") or {}

    @property
    def _metadata(self) -> dict[str, dict[str, Any]]:
        """What each task's file says of itself."""
        configs: dict[str, Any] = self.results.get("configs") or {}
        return {task: (said or {}).get("metadata") or {} for task, said in configs.items()}


Source = Path | Evaluation  # where a function reads a folder, it takes what was read as well


def read(folder: Source) -> Evaluation:
    """The evaluation in `folder`: results.json and samples_TASK.jsonl. Raises DataError where it holds none."""
    if isinstance(folder, Evaluation):
        return folder
    said = results(folder)
    samples: dict[tuple[str, str], dict[int, Row]] = {}
    for path in sorted(folder.glob("samples_*.jsonl")):
        task = path.stem.removeprefix("samples_")
        for number, line in enumerate(_text(path).split("\n"), 1):
            if line:
                row = {**_row(line, f"{path}:{number}"), "task": task}  # in a group, items are of several
                rows = samples.setdefault((task, row.get("filter", "none")), {})
                if rows.setdefault(row["doc_id"], row) is not row:
                    raise DataError(f"{path}:{number}: item {row['doc_id']} stands here twice; evaluate again")
    if not samples:
        why = "; ".join(f"{task} failed: {error}" for task, error in Evaluation(folder, said, {}).errors.items())
        why = why or "no samples_TASK.jsonl, and a paired comparison needs every item"
        raise DataError(f"{folder}: {why}; evaluate again")
    return Evaluation(folder, said, samples)


def results(folder: Path) -> dict[str, Any]:
    """results.json of an evaluation folder. Raises DataError where there is none, or it is damaged."""
    path = folder / "results.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{folder}: no evaluation, results.json cannot be read; `nlpft eval` writes one") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}; evaluate again") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: not an object as lm-eval writes it; evaluate again")
    return found


def labels(evaluations: Sequence[Evaluation]) -> list[str]:
    """A name for each of `evaluations`: its label, or its folder where another one has the same."""
    names = [e.label for e in evaluations]
    return [name if names.count(name) == 1 else str(e.folder) for name, e in zip(names, evaluations, strict=True)]


def _leaves(name: str, children: dict[str, list[str]]) -> list[str]:
    below = children.get(name)
    return [task for child in below for task in _leaves(child, children)] if below else [name]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); evaluate again") from error


def _row(line: str, place: str) -> Row:
    try:
        row = json.loads(line)
        row["doc_id"], row["metrics"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{place}: not a sample as lm-eval logs it ({error!r}); evaluate again") from error
    return row
