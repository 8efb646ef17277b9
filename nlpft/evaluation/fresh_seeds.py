"""What a setting scores over fresh seeds: mean and interval (Student's t over seeds), and its distance to another setting's."""

import hashlib
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nlpft.evaluation import sweep
from nlpft.evaluation.cross_validation import spread
from nlpft.evaluation.head_scores import LOWER
from nlpft.files import locked, write_text
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


def verdict(name: str, other: str, found: dict[str, Any], lower: bool = True) -> str:
    """A line on a measure's `gap` of `name` to `other`; lower: whether less of it is better."""
    if found["low"] is None:
        return f"{name}: {found['mean']:+.4f} beside {other}, of one seed, which settles nothing"
    place = f"{found['mean']:+.4f} ({found['low']:+.4f} to {found['high']:+.4f}) beside {other}"
    if not found["settled"]:
        return f"{name}: {place}: no difference is shown"
    return f"{name}: {place}: {'better' if (found['mean'] < 0) == lower else 'worse'}"


def cost(run: Path, name: str) -> float:
    """The measure called `name` of a run's evaluation on data.test; its negative where more is better."""
    value = sweep.measured(RunDir(run).eval / "test", name)
    return value if name in LOWER else -value


def shown(name: str, cost: float) -> float:
    """The measure called `name` as users know it, from its cost."""
    return cost if name in LOWER else -cost


def once(folder: Path, about: dict[str, Any], run: Callable[[Path], float]) -> float:
    """What `run` gives, kept in FOLDER/KEY.json: of what is kept there nothing is run again.

    about: all that decides the value, for JSON; KEY is its hash. run: is told FOLDER/KEY, which no other process has meanwhile;
    of several at once the first one runs, and the others wait for its value.
    """
    told = json.loads(json.dumps(about, default=str))
    place = folder / hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
    file = place.with_suffix(".json")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(place):  # a killed process holds it no more
        if not file.is_file():
            write_text(file, json.dumps({"value": run(place), **told}, indent=2) + "\n")
        return float(json.loads(file.read_text(encoding="utf-8"))["value"])
