"""Heads of several runs side by side: each measure with an interval, and with what parts it from the first run's.

Intervals are percentiles of a bootstrap over rows (Efron & Tibshirani 1993); runs that were scored on the same rows share its
draws, so that a difference is that of pairs. F1 is that of the drawn rows as a whole.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from nlpft.data.labelled.labels import MULTI, REGRESSION, SINGLE
from nlpft.data.labelled.table import TAGGING
from nlpft.evaluation import items
from nlpft.evaluation.report.facts import Run
from nlpft.evaluation.report.heads import SAID, TRUE, HeadScores, Sample
from nlpft.evaluation.report.plots import distinct
from nlpft.evaluation.results import LOWER

DRAWS = 1000
CONFIDENCE = 0.95
Measure = Callable[[np.ndarray], float]  # of how often each row counts [rows]


class Difference(NamedTuple):
    """To the first run's value."""

    value: float
    low: float
    high: float


class Score(NamedTuple):
    """One run's value of a measure."""

    run: str
    number: int  # of its colour
    value: float
    low: float
    high: float
    difference: Difference | None  # None of the first run, and of one that was scored on other rows


class Table(NamedTuple):
    """One measure of one evaluation."""

    label: str  # of the evaluation
    measure: str
    rows: int
    higher_is_better: bool
    scores: Sequence[Score]


class _Evaluated(NamedTuple):
    run: str
    number: int
    scores: HeadScores
    asked: list[tuple[str, str]]  # place and label of each row
    measures: dict[str, Measure]


def tables(found: Sequence[Run]) -> list[Table]:
    """A table for each evaluation of a head that two runs have, and each measure of it that they share."""
    by_label: dict[tuple[str, str], list[_Evaluated]] = {}
    for number, (name, run) in enumerate(zip(distinct(found), found, strict=True)):
        for scores in run.heads:
            by_label.setdefault((scores.label, scores.kind), []).append(_evaluated(name, number, run, scores))
    return [
        _table(label, measure, some)
        for (label, _), of in by_label.items()
        for measure in dict.fromkeys(key for one in of for key in one.measures)
        if len(some := [one for one in of if measure in one.measures]) > 1
    ]


def _evaluated(name: str, number: int, run: Run, scores: HeadScores) -> _Evaluated:
    samples = items.read(run.folder.eval / scores.label).samples
    rows = [row for _, by_id in sorted(samples.items()) for _, row in sorted(by_id.items())]
    asked = [(row["doc"]["source"], row["target_hash"]) for row in rows]
    return _Evaluated(name, number, scores, asked, measures(scores, rows))


def measures(scores: HeadScores, rows: Sequence[Sample]) -> dict[str, Measure]:
    """The measures of a kind of head that rows decide, F1 first; loss in nats for each target."""
    nats, targets = (np.array([row[key] for row in rows], np.float64) for key in ("loss_sum", "tokens"))
    means = {key: np.array([row[key] for row in rows], np.float64) for key in rows[0]["metrics"]}
    found: dict[str, Measure] = {"f1": F1[scores.kind](scores, rows)} if scores.kind in F1 else {}
    found |= {key: partial(_ratio, values, np.ones(len(rows))) for key, values in means.items()}
    return found if scores.kind == REGRESSION else found | {"loss": partial(_ratio, nats, targets)}  # which is its mse


def _ratio(above: np.ndarray, below: np.ndarray, counts: np.ndarray) -> float:
    return float(counts @ above / max(counts @ below, 1))


def _f1_of_one_label(scores: HeadScores, rows: Sequence[Sample]) -> Measure:
    """Mean over the labels that are there or said, as scikit-learn's macro F1."""
    number = {label: i for i, label in enumerate(scores.labels)}
    true, said = (np.array([number[x] for x in of]) for of in zip(*((r[TRUE], r[SAID][0]) for r in rows), strict=True))

    def f1(counts: np.ndarray) -> float:
        sums = np.bincount(true, counts, len(number)) + np.bincount(said, counts, len(number))
        right = np.bincount(true, counts * (true == said), len(number))
        return float((2 * right[sums > 0] / sums[sums > 0]).mean())

    return f1


def _f1_of_several(scores: HeadScores, rows: Sequence[Sample]) -> Measure:
    """Mean over all labels."""
    true, said = (np.array([[x in of for x in scores.labels] for of in (r[TRUE] for r in rows)], float),
                  np.array([[x in of for x in scores.labels] for of in (r[SAID][0] for r in rows)], float))  # fmt: skip

    def f1(counts: np.ndarray) -> float:
        return float((2 * (counts @ (true * said)) / np.maximum(counts @ (true + said), 1)).mean())

    return f1


def _f1_of_spans(scores: HeadScores, rows: Sequence[Sample]) -> Measure:
    """Of all spans together, as seqeval's."""
    from nlpft.metrics.seqeval import spans  # with datasets, seconds of import that other heads do not need

    true, said = (set(spans(of)) for of in zip(*((r[TRUE], r[SAID][0]) for r in rows), strict=True))
    there, right = (np.bincount([row for row, *_ in of], minlength=len(rows)) if of else np.zeros(len(rows))
                    for of in ([*true, *said], [*(true & said)]))  # fmt: skip
    return partial(_ratio, 2 * right, there)


F1: dict[str, Callable[[HeadScores, Sequence[Sample]], Measure]] = {
    SINGLE: _f1_of_one_label,
    MULTI: _f1_of_several,
    TAGGING: _f1_of_spans,
}


def _table(label: str, measure: str, of: Sequence[_Evaluated]) -> Table:
    first, rows = of[0], len(of[0].asked)
    values = [one.measures[measure](np.ones(len(one.asked))) for one in of]
    drawn = [_drawn(one.measures[measure], len(one.asked)) for one in of]
    scores = []
    for one, value, draws in zip(of, values, drawn, strict=True):
        same = one is not first and one.asked == first.asked
        apart = Difference(value - values[0], *_bounds(draws - drawn[0])) if same else None
        scores.append(Score(one.run, one.number, value, *_bounds(draws), apart))
    return Table(label, measure.replace("_", " "), rows, measure not in LOWER, scores)


def _drawn(measure: Measure, rows: int) -> np.ndarray:
    """`measure` of rows drawn with replacement [DRAWS]; the same draws for as many rows."""
    draw, even = np.random.default_rng(0), np.full(rows, 1 / rows)
    return np.array([measure(draw.multinomial(rows, even).astype(np.float64)) for _ in range(DRAWS)])


def _bounds(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
