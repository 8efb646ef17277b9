"""What a setting scores over fresh seeds: mean and interval (Student's t over seeds), and its distance to another setting's."""

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nlpft.evaluation import sweep
from nlpft.evaluation.cross_validation import spread
from nlpft.evaluation.head_scores import LOWER
from nlpft.rundir import RunDir


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


def cost(run: Path, name: str) -> float:
    """The measure called `name` of a run's evaluation on data.test; its negative where more is better."""
    value = sweep.measured(RunDir(run).eval / "test", name)
    return value if name in LOWER else -value


def values(
    known: sweep.Scores,
    trained: Callable[..., float],
    point: dict[str, Any],
    seeds: Iterable[int],
    test: Path | None = None,
) -> list[float]:
    """What `trained(point=, seed=, test=)` gives for each of `seeds`; what `known` has is not run again."""
    found = []
    for seed in seeds:
        key = json.dumps([point, seed, str(test)])
        if key not in known:
            known.add(key, sweep.Score(0, "final", seed, trained(point=point, seed=seed, test=test)))
        found.append(known[key].value)
    return found
