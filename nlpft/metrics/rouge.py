"""Overlap of n-grams and longest common subsequences with the reference (Lin 2004), by rouge-score: mean of F1."""

from typing import Any

import datasets
import evaluate
from rouge_score.rouge_scorer import RougeScorer

from nlpft.metrics._info import info

KIND = "text"
VALUES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


class Metric(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return info(__doc__, datasets.Value("string"))

    def _compute(self, predictions: list[str], references: list[str], use_stemmer: bool = False) -> dict[str, Any]:
        return {name: sum(values) / len(values) for name, values in rows(predictions, references, use_stemmer).items()}


def rows(predictions: list[str], references: list[str], use_stemmer: bool = False) -> dict[str, list[float]]:
    """What each row adds to the means."""
    scorer = RougeScorer(list(VALUES), use_stemmer=use_stemmer)
    found = [scorer.score(r, p) for p, r in zip(predictions, references, strict=True)]
    return {name: [row[name].fmeasure for row in found] for name in VALUES}
