"""Precision, recall and F1 over labels: what the metrics of these names share."""

from collections.abc import Callable
from typing import Any, ClassVar

import datasets
import evaluate
import numpy as np

from nlpft.metrics import _counts
from nlpft.metrics._info import info

ORDER = ("precision", "recall", "f1")  # of `_counts.shares`


class ByLabel(evaluate.Metric):
    """A metric of scikit-learn's that takes `labels` and `average`."""

    VALUE: ClassVar[str]
    ABOUT: ClassVar[str | None]
    of: ClassVar[Callable[..., Any]]

    def _info(self) -> evaluate.MetricInfo:
        return info(self.ABOUT, datasets.Value("int32"))

    def _compute(
        self, predictions: list[int], references: list[int], labels: list[int] | None = None, average: str = "macro"
    ) -> dict[str, Any]:
        score = self.of(references, predictions, labels=labels, average=average, zero_division=0)
        return {self.VALUE: float(score) if average else score}


def counts(predictions: list[int], references: list[int], labels: list[int]) -> np.ndarray:
    """What each row adds to the counts of each label."""
    return _counts.of_labels(predictions, references, labels)


def scorer(name: str) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Of sums of such rows: the mean over labels of the one called `name`."""
    return lambda sums: {name: _counts.shares(sums)[ORDER.index(name)].mean(-1)}
