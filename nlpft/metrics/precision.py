"""Share of what is said to be a label that is it, over labels, by scikit-learn; `average` as there."""

from typing import Any

import datasets
import evaluate
import numpy as np
from sklearn.metrics import precision_score

from nlpft.metrics import _counts
from nlpft.metrics._info import info

KIND = "label"
VALUES = ("precision",)


class Metric(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return info(__doc__, datasets.Value("int32"))

    def _compute(
        self, predictions: list[int], references: list[int], labels: list[int] | None = None, average: str = "macro"
    ) -> dict[str, Any]:
        score = precision_score(references, predictions, labels=labels, average=average, zero_division=0)
        return {"precision": float(score) if average else score}


def counts(predictions: list[int], references: list[int], labels: list[int]) -> np.ndarray:
    """What each row adds to the counts of each label."""
    return _counts.of_labels(predictions, references, labels)


def score(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Of sums of such rows: the mean over labels."""
    return {"precision": _counts.shares(sums)[0].mean(-1)}
