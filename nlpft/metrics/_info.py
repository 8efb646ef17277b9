"""What `evaluate` wants to know of a metric."""

from typing import Any

import datasets
import evaluate


def info(doc: str | None, value: Any) -> evaluate.MetricInfo:
    """Of a metric that compares predictions with references, both of the type `value`; doc: of its module."""
    features = datasets.Features({"predictions": value, "references": value})
    return evaluate.MetricInfo(description=doc or "", citation="", inputs_description="", features=features)
