"""Share of what is said to be a label that is it, over labels, by scikit-learn; `average` as there."""

from typing import Any

import datasets
import evaluate
from sklearn.metrics import precision_score

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
