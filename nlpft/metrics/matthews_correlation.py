"""Correlation of labels said with labels that are so (Matthews 1975; of several labels Gorodkin 2004), by scikit-learn."""

from typing import Any

import datasets
import evaluate
from sklearn.metrics import matthews_corrcoef

from nlpft.metrics._info import info

KIND = "label"
VALUES = ("matthews_correlation",)


class Metric(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return info(__doc__, datasets.Value("int32"))

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, Any]:
        return {"matthews_correlation": float(matthews_corrcoef(references, predictions))}
