"""Share of right labels, by scikit-learn."""

from typing import Any

import datasets
import evaluate
from sklearn.metrics import accuracy_score

KIND = "label"
VALUES = ("accuracy",)


class Metric(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("int32"), "references": datasets.Value("int32")})
        return evaluate.MetricInfo(description=__doc__ or "", citation="", inputs_description="", features=features)

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, Any]:
        return {"accuracy": float(accuracy_score(references, predictions))}


def rows(predictions: list[int], references: list[int]) -> dict[str, list[float]]:
    """What each row adds to the mean."""
    return {"accuracy": [float(p == r) for p, r in zip(predictions, references, strict=True)]}
