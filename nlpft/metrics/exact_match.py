"""Share of answers that are the reference to the letter, blanks around them aside."""

from typing import Any

import datasets
import evaluate

from nlpft.metrics._info import info

KIND = "text"
VALUES = ("exact_match",)


class Metric(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return info(__doc__, datasets.Value("string"))

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, Any]:
        pairs = zip(predictions, references, strict=True)
        return {"exact_match": sum(p.strip() == r.strip() for p, r in pairs) / len(references)}
