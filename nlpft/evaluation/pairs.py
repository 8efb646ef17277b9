"""The items of two evaluations side by side: the values of each metric, of tasks or groups of them. Loads no torch."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from nlpft.errors import DataError, some
from nlpft.evaluation.corpus import Corpus, corpus
from nlpft.evaluation.items import LOG_LIKELIHOODS, Evaluation, Pair, Row

HASHES = {"doc_hash": "another item", "prompt_hash": "another prompt", "target_hash": "another expected answer"}
CLUSTER = "cluster"  # the field of an item that says what it belongs to


class Paired(NamedTuple):
    """The values of one metric on the items of one task or group: the metric is sum(values) / sum(weights).

    Of a metric of the whole corpus it is the score of `corpus`, and `other` what base's would be with this item's other answer.
    """

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
    corpus: Corpus | None = None


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
        yield from _of_one(base, other, task, pairs)
        for metric in [name for name in names if name == "loss" or name in pairs[0][1]["metrics"]]:
            a, b = (_values([pair[side] for pair in pairs], metric) for side in (0, 1))
            if a is None or b is None:
                said = _reported((base, other), task, metric, filter_)
                yield None, f"{task} {metric}: not compared, its values are not one number for each item{said}"
            elif clusters.max() < 1:
                yield None, f"{task} {metric}: not compared, one item says nothing about another"
            elif not np.array_equal(a[1], b[1]):
                why = "another number of tokens in the same text; was the tokenizer or the chat template changed?"
                raise DataError(f"{task} {metric}: {other.folder} counts {why} (against {base.folder})")
            else:
                higher = other.higher_is_better(task, metric)
                yield Paired(task, filter_, metric, higher, a[0], b[0], a[1], clusters, pairs), ""
        yield from _of_corpora(base, other, (task, filter_), clusters, pairs)


def _of_one(base: Evaluation, other: Evaluation, task: str, pairs: list[Pair]) -> Iterator[tuple[None, str]]:
    """Metrics that only one of the two was asked for."""
    before, after = (row["metrics"] for row in pairs[0])
    for here, there, e in ((before, after, base), (after, before, other)):
        if missing := [metric for metric in here if metric not in there]:
            yield None, f"{task} {', '.join(missing)}: not compared, only in {e.folder}"


def _of_corpora(
    base: Evaluation, other: Evaluation, key: tuple[str, str], clusters: np.ndarray, pairs: list[Pair]
) -> Iterator[tuple[Paired | None, str]]:
    """What is reported of a task and no item has: metrics of the whole corpus, from the answers, or their values as a note."""
    task, filter_ = key
    first = pairs[0][0]
    a, b = (e.reported(task, filter_) for e in (base, other))
    told = {*first["metrics"], *(("loss", "perplexity") if "loss_sum" in first else ())}
    for metric in [name for name in a if name in b and name not in told]:
        answers = [[_answer(pair[side]) for pair in pairs] for side in (0, 1)]
        found = corpus(metric, answers, [row.get("target") for row, _ in pairs], (a[metric], b[metric]))
        if found and clusters.max() > 0:
            changed = found.score(found.base.sum(0) + found.other - found.base)
            same, ones = np.full(len(pairs), found.score(found.base.sum(0))), np.ones(len(pairs))
            higher = other.higher_is_better(task, metric)
            yield Paired(task, filter_, metric, higher, same, changed, ones, clusters, pairs, corpus=found), ""
        else:
            said = _reported((base, other), task, metric, filter_)
            yield None, f"{task} {metric}: not compared, it is no mean over items{said}"


def _answer(row: Row) -> Any:
    """What was read of a model's answer."""
    return (row.get("filtered_resps") or [None])[0]


def _reported(both: Sequence[Evaluation], task: str, metric: str, filter_: str) -> str:
    """The values that results.json has of either, in words."""
    values = [e.reported(task, filter_).get(metric) for e in both]
    if None in values:
        return ""
    return ": " + ", ".join(f"{value:.4g} for {e.label}" for e, value in zip(both, values, strict=True))


def grouped(found: Sequence[Paired], groups: dict[str, str]) -> list[Paired]:
    """`found` with the tasks of a group (`groups`: group by task) as one, over all their items, where they share a metric."""
    together: dict[tuple[str, str, str, bool], list[Paired]] = {}
    for p in found:
        group = p.task if p.corpus else groups.get(p.task, p.task)  # counts of other labels do not add up
        together.setdefault((group, p.filter, p.metric, p.higher_is_better), []).append(p)
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
