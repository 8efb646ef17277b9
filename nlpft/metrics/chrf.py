"""Character n-gram F-score of the whole corpus (Popovic 2015), by sacrebleu."""

from typing import Any

import datasets
import evaluate
import sacrebleu

KIND = "text"
VALUES = ("score",)


class Metric(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})
        return evaluate.MetricInfo(description=__doc__ or "", citation="", inputs_description="", features=features)

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, Any]:
        found = sacrebleu.corpus_chrf(predictions, [references])
        return {
            "score": found.score,
            "char_order": found.char_order,
            "word_order": found.word_order,
            "beta": found.beta,
        }
