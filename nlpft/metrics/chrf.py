"""Character n-gram F-score of the whole corpus (Popovic 2015), by sacrebleu."""

from typing import Any

import datasets
import evaluate
import numpy as np
import sacrebleu

from nlpft.metrics import _counts
from nlpft.metrics._info import info

KIND = "text"
VALUES = ("score",)


class Metric(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return info(__doc__, datasets.Value("string"))

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, Any]:
        found = sacrebleu.corpus_chrf(predictions, [references])
        return {
            "score": found.score,
            "char_order": found.char_order,
            "word_order": found.word_order,
            "beta": found.beta,
        }


def counts(predictions: list[str], references: list[str]) -> np.ndarray:
    """What each row adds to the score: n-grams written, wanted and common to both."""
    return _counts.of_texts(sacrebleu.CHRF(), predictions, references)


def score(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Of sums of such rows."""
    return {"score": _counts.score_of_texts(sacrebleu.CHRF(), sums)}
