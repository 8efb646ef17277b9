"""Evaluation folders read back (lm-evaluation-harness's layout), and the items of two of them side by side. Loads no torch."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nlpft.errors import DataError, some
from nlpft.evaluation.finite import failures

Row = dict[str, Any]  # one line of samples_TASK.jsonl
Pair = tuple[Row, Row]  # one item as base and other answered it

# What lm-eval logs for one item under these names is its log-likelihood, or [log-likelihood, number of words or bytes]. Here
# its negative is compared, in nats: the logarithm of the metric, and smaller is better as it is for the metric itself.
LOG = "log, nats"
LOG_LIKELIHOODS = {"perplexity": LOG, "word_perplexity": LOG, "byte_perplexity": LOG, "bits_per_byte": "nats"}
HASHES = {"doc_hash": "another item", "prompt_hash": "another prompt", "target_hash": "another expected answer"}
CLUSTER = "cluster"  # the field of an item that says what it belongs to


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


class Paired(NamedTuple):
    """The values of one metric on the items of one task or group: the metric is sum(values) / sum(weights)."""

    task: str
    filter: str
    metric: str
    higher_is_better: bool
    base: np.ndarray  # [items]
    other: np.ndarray  # [items]
    weights: np.ndarray  # [items]; ones, or tokens or words where the metric is a rate
    clusters: np.ndarray  # [items]; from 0, equal where items belong together
    pairs: Sequence[Pair]  # [items]
    tasks: int = 1  # of a group


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


def paired(base: Evaluation, other: Evaluation, cluster: str = CLUSTER) -> Iterator[tuple[Paired | None, str]]:
    """Each metric's values on each task and filter, or None with the reason why it has none; of a failed task nothing.

    `cluster` names the field of an item, or of its document, by which items belong together. Raises DataError where the two
    were not asked the same.
    """
    for task, filter_ in _shared(base, other):
        if task in base.errors or task in other.errors:
            continue
        pairs = pairs_of(base, other, task, filter_)
        clusters = _clusters(pairs, cluster)
        names = dict.fromkeys([*pairs[0][0]["metrics"], *(["loss"] if "loss_sum" in pairs[0][0] else [])])
        for metric in names:
            a, b = (_values([pair[side] for pair in pairs], metric) for side in (0, 1))
            if a is None or b is None:
                yield None, f"{task} {metric}: not compared, its values are not one number for each item"
            elif clusters.max() < 1:
                yield None, f"{task} {metric}: not compared, one item says nothing about another"
            elif not np.array_equal(a[1], b[1]):
                why = "another number of tokens in the same text; was the tokenizer or the chat template changed?"
                raise DataError(f"{task} {metric}: {other.folder} counts {why} (against {base.folder})")
            else:
                higher = other.higher_is_better(task, metric)
                yield Paired(task, filter_, metric, higher, a[0], b[0], a[1], clusters, pairs), ""


def grouped(found: Sequence[Paired], groups: dict[str, str]) -> list[Paired]:
    """`found` with the tasks of a group (`groups`: group by task) as one, over all their items, where they share a metric."""
    together: dict[tuple[str, str, str, bool], list[Paired]] = {}
    for p in found:
        together.setdefault((groups.get(p.task, p.task), p.filter, p.metric, p.higher_is_better), []).append(p)
    return [_joined(name, parts) if len(parts) > 1 else parts[0] for (name, *_), parts in together.items()]


def _joined(name: str, parts: list[Paired]) -> Paired:
    counts = [int(p.clusters.max()) + 1 for p in parts]
    starts = np.cumsum([0, *counts[:-1]])
    return parts[0]._replace(
        task=name,
        base=np.concatenate([p.base for p in parts]),
        other=np.concatenate([p.other for p in parts]),
        weights=np.concatenate([p.weights for p in parts]),
        clusters=np.concatenate([p.clusters + start for p, start in zip(parts, starts, strict=True)]),
        pairs=[pair for p in parts for pair in p.pairs],
        tasks=len(parts),
    )


def pairs_of(base: Evaluation, other: Evaluation, task: str, filter_: str) -> list[Pair]:
    """Both rows of each item, in the order of doc_id. Raises DataError where the two were not asked the same."""
    a, b = base.samples[task, filter_], other.samples[task, filter_]
    if a.keys() != b.keys():
        raise DataError(
            f"{task}: not the same items: {len(a.keys() & b.keys())} in both, {len(a.keys() - b.keys())} only in "
            f"{base.folder}, {len(b.keys() - a.keys())} only in {other.folder}; evaluate both on the same items"
        )
    for doc_id, key in ((i, key) for i in sorted(a) for key in HASHES):
        if a[doc_id].get(key) != b[doc_id].get(key):
            raise DataError(
                f"{task}: item {doc_id} is {HASHES[key]} in {other.folder} than in {base.folder} ({key} differs); "
                "evaluate both with the same tasks, data, chat template and number of shots"
            )
    return [(a[i], b[i]) for i in sorted(a)]


def check_cluster(evaluation: Evaluation, field: str) -> None:
    """Raise DataError where no item of `evaluation` has the `field` that was asked for."""
    first = [next(iter(rows.values())) for rows in evaluation.samples.values()]
    if not any(_belongs(row, field) is not None for row in first):
        had = dict.fromkeys(key for row in first for key in _doc(row))
        raise DataError(f"{evaluation.folder}: no item has a field {field!r}; their documents have {some(had, 12)}")


def _clusters(pairs: list[Pair], field: str) -> np.ndarray:
    """Number of the cluster of each item [items]; an item without `field` is one by itself."""
    numbers: dict[str, int] = {}
    keys = [_belongs(row, field) for row, _ in pairs]
    return np.array([
        numbers.setdefault(f"item {i}" if key is None else json.dumps(key), len(numbers)) for i, key in enumerate(keys)
    ])  # fmt: skip


def _belongs(row: Row, field: str) -> Any:
    return row.get(field, _doc(row).get(field))


def _doc(row: Row) -> dict[str, Any]:
    doc = row.get("doc")
    return doc if isinstance(doc, dict) else {}


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


def _shared(base: Evaluation, other: Evaluation) -> list[tuple[str, str]]:
    """The (task, filter) that both hold. Raises DataError where there is none."""
    shared = [key for key in base.samples if key in other.samples]
    if not shared:
        had = [", ".join(sorted({task for task, _ in e.samples})) for e in (base, other)]
        raise DataError(f"no task in common: {base.folder} has {had[0]}, {other.folder} has {had[1]}")
    return shared


def _values(rows: list[Row], metric: str) -> tuple[np.ndarray, np.ndarray] | None:
    """(values, weights), both [items], or None where an item has none that is a finite number."""
    if metric == "loss" and "loss_sum" in rows[0]:
        cells = [[row.get("loss_sum"), row.get("tokens")] for row in rows]
    elif metric in LOG_LIKELIHOODS:
        cells = [value if isinstance(value, list) else [value, 1] for value in (row.get(metric) for row in rows)]
    else:
        cells = [[row.get(metric), 1] for row in rows]
    if any(len(cell) != 2 or not all(isinstance(x, int | float) for x in cell) for cell in cells):
        return None
    values, weights = np.array(cells, dtype=np.float64).T
    if not np.isfinite(values).all() or not weights.sum() > 0:
        return None
    return (-values if metric in LOG_LIKELIHOODS else values), weights
