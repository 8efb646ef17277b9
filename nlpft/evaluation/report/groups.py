"""Gaps between groups of rows: a head's measures for each value of a column of the labelled files (fairlearn's MetricFrame)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nlpft.data import sources
from nlpft.data.read import read as read_records
from nlpft.errors import ConfigError, DataError, some
from nlpft.evaluation import items
from nlpft.evaluation.report.facts import Run
from nlpft.types import Record

MOST = 50  # groups
NONE = "(none)"  # the group of rows whose column is empty
DRAWS = 2000  # of groups by chance
Metric = Callable[[np.ndarray, Any], float]  # of row numbers, and what MetricFrame passes besides


class Group(NamedTuple):
    """The rows with one value of the column."""

    name: str
    rows: int
    values: Sequence[float]  # of each measure


class Gaps(NamedTuple):
    """One evaluation by groups."""

    label: str  # of the evaluation
    column: str
    measures: Sequence[str]
    groups: Sequence[Group]
    gaps: Sequence[float]  # of each measure, the largest group's less the smallest's
    chances: Sequence[
        float | None
    ]  # p of each: how often groups drawn by chance have such a gap; None where it is not drawn


def with_gaps(run: Run, column: str) -> Run:
    """`run` with the gaps between the groups that `column` makes. Raises ConfigError without fairlearn or a head, DataError where
    the files no longer hold what was labelled, or have no such column."""
    if find_spec("fairlearn") is None:
        raise ConfigError('--groups needs fairlearn: pip install "nlpft[heads]"')
    if not run.heads:
        raise ConfigError(
            f"--groups {column}: {run.path} has no evaluation of a head; recipes/classify.py and tag.py leave one"
        )
    return replace(run, gaps=[gaps(run.folder.eval / scores.label, column) for scores in run.heads])


def gaps(folder: Path, column: str) -> Gaps:
    """The measures of the evaluation in `folder` by the values of `column`."""
    from fairlearn.metrics import MetricFrame  # optional, and seconds of import

    found = items.read(folder)
    rows = [row for by_id in found.samples.values() for _, row in sorted(by_id.items())]
    values = column_of([row["doc"]["source"] for row in rows], column)
    metrics, everyone = _metrics(found.results["nlpft"]["problem_type"], rows), np.arange(len(rows))
    frame = MetricFrame(metrics=metrics, y_true=everyone, y_pred=everyone, sensitive_features=np.array(values, object))
    groups = [Group(str(name), values.count(name), by.tolist()) for name, by in frame.by_group.iterrows()]
    drawn = [_chance(np.array([metric(everyone[i : i + 1], None) for i in everyone]), values) if name != "f1" else None
             for name, metric in metrics.items()]  # fmt: skip
    return Gaps(folder.name, column, list(metrics), groups, frame.difference().tolist(), drawn)


def _metrics(kind: str, rows: Sequence[dict[str, Any]]) -> dict[str, Metric]:
    """Means over rows of what each row has; of one label macro F1, too."""
    each = {name: [row[name] for row in rows] for name in rows[0]["metrics"]}
    each["loss"] = [row["loss_sum"] / max(1, row["tokens"]) for row in rows]
    found: dict[str, Metric] = {name: partial(_mean, np.array(values, np.float64)) for name, values in each.items()}
    if kind == "single_label_classification":
        found["f1"] = partial(
            _f1, *(np.array(x) for x in zip(*((r["target"], r["resps"][0][0]) for r in rows), strict=True))
        )
    return found


def _mean(values: np.ndarray, rows: np.ndarray, _: Any) -> float:
    return float(values[rows].mean())


def _f1(true: np.ndarray, said: np.ndarray, rows: np.ndarray, _: Any) -> float:
    from sklearn.metrics import f1_score  # a second of import

    return float(f1_score(true[rows], said[rows], average="macro", zero_division=0))


def _chance(values: np.ndarray, groups: Sequence[str]) -> float:
    """How often rows dealt to groups of the same sizes by chance have a gap of means at least as large (permutation test)."""
    number = np.unique(np.array(groups), return_inverse=True)[1]
    sizes, draw = np.bincount(number), np.random.default_rng(0)

    def gap(order: np.ndarray) -> float:
        return float(np.ptp(np.bincount(order, values) / sizes))

    own = gap(number) - 1e-12
    return (1 + sum(gap(draw.permutation(number)) >= own for _ in range(DRAWS))) / (1 + DRAWS)


def column_of(places: Sequence[str], column: str) -> list[str]:
    """The value of `column` in the row at each of `places`, 'file:row'. Raises DataError as `with_gaps` does."""
    files = {name: _rows(name, column) for name in dict.fromkeys(place.rpartition(":")[0] for place in places)}
    found = []
    for place in places:
        row = files[place.rpartition(":")[0]].get(place)
        if row is None:
            raise DataError(
                f"{place}: no such row; that can be read as UTF-8; was the file changed since it was labelled?"
            )
        found.append(NONE if row.get(column) in (None, "") else str(row[column]))
    if len(set(found)) > MOST:
        raise DataError(f"--groups {column}: {len(set(found))} values, at most {MOST} make groups; name another column")
    return found


def _rows(name: str, column: str) -> dict[str, Any]:
    """The rows of a labelled file by their places."""
    try:
        rows = {row.source: row.data for row in read_records(sources.source(Path(name))) if isinstance(row, Record)}
    except DataError as error:
        raise DataError(
            f"{error}; --groups reads the labelled file: work in the folder where nlpft label did"
        ) from error
    known = list(dict.fromkeys(key for row in rows.values() if isinstance(row, dict) for key in row))
    if column not in known:
        raise DataError(f"{name}: no column {column!r} (--groups); its columns: {some(known, 20)}")
    return rows
