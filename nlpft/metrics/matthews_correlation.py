"""Correlation of labels said with labels that are so (Matthews 1975; of several labels Gorodkin 2004), by scikit-learn."""

from typing import Any

import datasets
import evaluate
import numpy as np
from sklearn.metrics import matthews_corrcoef

from nlpft.metrics import _counts
from nlpft.metrics._info import info

KIND = "label"
VALUES = ("matthews_correlation",)


class Metric(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return info(__doc__, datasets.Value("int32"))

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, Any]:
        return {"matthews_correlation": float(matthews_corrcoef(references, predictions))}


def counts(predictions: list[int], references: list[int], labels: list[int]) -> np.ndarray:
    """What each row adds to the counts of each label; `labels` holds those of all references."""
    return _counts.of_labels(predictions, references, labels)


def score(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Of sums of such rows (Gorodkin 2004, of several labels); what is said to be of no label counts as one more."""
    right, said, true = np.split(sums, 3, axis=-1)
    rows = true.sum(-1)
    said = np.concatenate([said, (rows - said.sum(-1))[..., None]], axis=-1)
    together = right.sum(-1) * rows - (said[..., :-1] * true).sum(-1)
    apart = np.sqrt((rows**2 - (said**2).sum(-1)) * (rows**2 - (true**2).sum(-1)))
    found = np.divide(together, apart, out=np.zeros_like(apart), where=apart > 0)
    return {"matthews_correlation": found}
