"""Harmonic mean of precision and recall over labels, by scikit-learn; `average` as there."""

from typing import Any

import datasets
import evaluate
import numpy as np
from sklearn.metrics import f1_score

from nlpft.metrics import _counts
from nlpft.metrics._info import info

KIND = "label"
VALUES = ("f1",)


class Metric(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return info(__doc__, datasets.Value("int32"))

    def _compute(
        self, predictions: list[int], references: list[int], labels: list[int] | None = None, average: str = "macro"
    ) -> dict[str, Any]:
        score = f1_score(references, predictions, labels=labels, average=average, zero_division=0)
        return {"f1": float(score) if average else score}


def counts(predictions: list[int], references: list[int], labels: list[int]) -> np.ndarray:
    """What each row adds to the counts of each label."""
    return _counts.of_labels(predictions, references, labels)


def score(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Of sums of such rows: the mean over labels."""
    return {"f1": _counts.shares(sums)[2].mean(-1)}
