"""Mean squared error of numbers, by scikit-learn."""

from typing import Any

import datasets
import evaluate
from sklearn.metrics import mean_squared_error

from nlpft.metrics._info import info

KIND = "number"
VALUES = ("mse",)


class Metric(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return info(__doc__, datasets.Value("float64"))

    def _compute(self, predictions: list[float], references: list[float]) -> dict[str, Any]:
        return {"mse": float(mean_squared_error(references, predictions))}


def rows(predictions: list[float], references: list[float]) -> dict[str, list[float]]:
    """What each row adds to the mean."""
    return {"mse": [float((p - r) ** 2) for p, r in zip(predictions, references, strict=True)]}
