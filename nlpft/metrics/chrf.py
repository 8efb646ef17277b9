"""Character n-gram F-score of the whole corpus (Popovic 2015), by sacrebleu."""

from typing import Any

import datasets
import evaluate
import sacrebleu

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
