"""Area under the receiver operating characteristic, one label against the rest, mean over labels, by scikit-learn."""

from typing import Any

import datasets
import evaluate
import numpy as np
from sklearn.metrics import roc_auc_score

from nlpft.metrics._info import info

KIND = "probabilities"
VALUES = ("roc_auc",)


class Metric(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return info(__doc__, datasets.Sequence(datasets.Value("float64")))

    def _compute(self, predictions: list[list[float]], references: list[list[float]]) -> dict[str, Any]:
        """predictions, references: [rows, labels], the latter 0 or 1. Labels that all rows have, or none, say nothing: of only
        such the value is NaN."""
        said, true = np.asarray(predictions), np.asarray(references)
        tells = (true.min(0) < 1) & (true.max(0) > 0)
        return {"roc_auc": float(roc_auc_score(true[:, tells], said[:, tells])) if tells.any() else float("nan")}
