"""Pearson's correlation of numbers, by scipy; NaN where all are equal."""

from typing import Any

import datasets
import evaluate
import numpy as np
from scipy.stats import pearsonr

from nlpft.metrics._info import info

KIND = "number"
VALUES = ("pearsonr",)


class Metric(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return info(__doc__, datasets.Value("float64"))

    def _compute(self, predictions: list[float], references: list[float]) -> dict[str, Any]:
        varied = len(predictions) > 1 and np.ptp(predictions) > 0 and np.ptp(references) > 0
        return {"pearsonr": float(pearsonr(references, predictions).statistic) if varied else float("nan")}
