"""Share of right labels, by scikit-learn."""

from typing import Any

import datasets
import evaluate
from sklearn.metrics import accuracy_score

from nlpft.metrics._info import info

KIND = "label"
VALUES = ("accuracy",)


class Metric(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return info(__doc__, datasets.Value("int32"))

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, Any]:
        return {"accuracy": float(accuracy_score(references, predictions))}


def rows(predictions: list[int], references: list[int]) -> dict[str, list[float]]:
    """What each row adds to the mean."""
    return {"accuracy": [float(p == r) for p, r in zip(predictions, references, strict=True)]}
