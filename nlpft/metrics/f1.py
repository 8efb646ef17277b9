"""Harmonic mean of precision and recall over labels, by scikit-learn; `average` as there."""

from typing import Any

import datasets
import evaluate
from sklearn.metrics import f1_score

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
