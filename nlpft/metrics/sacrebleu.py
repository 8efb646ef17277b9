"""BLEU of the whole corpus (Papineni et al. 2002), tokenized and smoothed as sacrebleu does (Post 2018)."""

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
        found = sacrebleu.corpus_bleu(predictions, [references])
        names = ("score", "counts", "totals", "precisions", "bp", "sys_len", "ref_len")
        return {name: getattr(found, name) for name in names}
