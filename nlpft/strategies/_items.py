"""A measure as a ratio of sums over items, so that items can be drawn again: accuracy, and F1 of spans."""

from collections import Counter

import numpy as np
from scipy.special import log_softmax

from nlpft.errors import ConfigError
from nlpft.evaluation.head_scores import Scored, by_row
from nlpft.metrics.seqeval import spans
from nlpft.types import Task

MEASURES = {"single_label_classification": ("accuracy",), "tagging": ("f1", "accuracy")}


def check(measure: str, task: Task) -> None:
    """Raise ConfigError for a measure that is no ratio of sums over the task's items, or a task without one."""
    if task.kind not in MEASURES:
        raise ConfigError(
            f"data.train: strategies are compared on one label a text, or a tag a word, not on {task.kind}"
        )
    if measure not in MEASURES[task.kind]:
        raise ConfigError(f"measure {measure!r}: of {task.kind} there are {', '.join(MEASURES[task.kind])}")


def counts(task: Task, scored: Scored, measure: str, rows: int) -> np.ndarray:
    """Numerator and denominator of each item, [2, rows]: the measure of a set of items is the ratio of their sums.

    accuracy: right targets, targets. f1: twice the right spans, spans said and true together.
    """
    if measure == "accuracy":
        right = scored.logits.argmax(1) == scored.targets
        return np.stack([np.bincount(scored.rows, x, rows) for x in (right.astype(float), np.ones(len(right)))])
    found = np.zeros((2, rows))
    numbers = np.unique(scored.rows)
    said, true = (by_row(task, scored, x) for x in (scored.logits.argmax(1), scored.targets))
    for row, own, wanted in zip(numbers, said, true, strict=True):
        mine, theirs = Counter(spans([own])), Counter(spans([wanted]))
        found[:, row] = 2 * (mine & theirs).total(), mine.total() + theirs.total()
    return found


def ratio(sums: np.ndarray) -> np.ndarray:
    """sums[0] / sums[1], 0 where there is nothing: sums [2, ...]."""
    return np.divide(sums[0], sums[1], out=np.zeros_like(sums[0], dtype=float), where=sums[1] > 0)


def value(task: Task, scored: Scored, measure: str, rows: int) -> float:
    return float(ratio(counts(task, scored, measure, rows).sum(1)))


def loss(scored: Scored) -> float:
    """Nats per target."""
    x = scored.logits.astype(np.float64)
    return float(-log_softmax(x, axis=1)[np.arange(len(x)), scored.targets].mean())
