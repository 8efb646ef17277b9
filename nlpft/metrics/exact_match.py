"""Share of answers that are the reference to the letter, blanks around them aside."""

from typing import Any

import datasets
import evaluate

KIND = "text"
VALUES = ("exact_match",)


class Metric(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})
        return evaluate.MetricInfo(description=__doc__ or "", citation="", inputs_description="", features=features)

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, Any]:
        pairs = zip(predictions, references, strict=True)
        return {"exact_match": sum(p.strip() == r.strip() for p, r in pairs) / len(references)}
