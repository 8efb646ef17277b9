"""What a setting scores over fresh seeds: mean and interval (Student's t over seeds), and its distance to another setting's."""

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from nlpft.evaluation.cross_validation import spread


def summary(values: Sequence[float], confidence: float = 0.95) -> dict[str, Any]:
    """`values` [seeds], their mean, and the interval of the mean, for a result's JSON; of one value there is no interval."""
    low = high = None
    if values[1:]:
        found = spread(values, 0.0, confidence)
        low, high = found.low, found.high
    return {"seeds": list(values), "mean": statistics.mean(values), "low": low, "high": high}


def gap(one: Sequence[float], other: Sequence[float], confidence: float = 0.95) -> dict[str, Any]:
    """The summary of `one` less `other`, seed by seed; `settled`: whether its interval leaves 0 out."""
    found = summary(np.subtract(one, other).tolist(), confidence)
    return {**found, "settled": found["low"] is not None and not found["low"] <= 0 <= found["high"]}


def verdict(name: str, other: str, found: dict[str, Any]) -> str:
    """A line on a loss's `gap` of `name` to `other`."""
    if found["low"] is None:
        return f"{name}: {found['mean']:+.4f} beside {other}, of one seed, which settles nothing"
    place = f"{found['mean']:+.4f} ({found['low']:+.4f} to {found['high']:+.4f}) beside {other}"
    if not found["settled"]:
        return f"{name}: {place}: no difference is shown"
    return f"{name}: {place}: {'better' if found['mean'] < 0 else 'worse'}"
