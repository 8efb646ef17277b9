"""BLEU of the whole corpus (Papineni et al. 2002), tokenized and smoothed as sacrebleu does (Post 2018)."""

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
        found = sacrebleu.corpus_bleu(predictions, [references])
        names = ("score", "counts", "totals", "precisions", "bp", "sys_len", "ref_len")
        return {name: getattr(found, name) for name in names}
