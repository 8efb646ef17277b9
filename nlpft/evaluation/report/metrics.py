"""metrics.jsonl of a run, read back: its steps, its evaluations, and what they come to."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nlpft.evaluation.tables import number

Line = dict[str, Any]
GIVEN = (
    "kind",
    "step",
    "loss",
    "targets",
    "best",
)  # in every evaluation; what else is there is a measure of the recipe's


class Metrics(NamedTuple):
    """Lines in the order of their steps."""

    train: list[Line]
    evals: list[Line]
    unreadable: int = 0  # lines


def read(path: Path) -> Metrics:
    """What is in metrics.jsonl; nothing where there is no such file.

    A run that was killed may end in half a line, and repeats steps when it is resumed: the last line of a step counts.
    """
    found: dict[str, dict[int, Line]] = {"train": {}, "eval": {}}
    unreadable = 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
            found.setdefault(row["kind"], {})[int(row["step"])] = row
        except (ValueError, KeyError, TypeError):
            unreadable += 1
    train, evals = ([found[kind][step] for step in sorted(found[kind])] for kind in ("train", "eval"))
    return Metrics(train, evals, unreadable)


def column(rows: list[Line], key: str) -> np.ndarray:
    """Values of `key` [rows] as float64; NaN where a row has none that is a number."""
    values = [row.get(key) for row in rows]
    return np.array([v if isinstance(v, int | float) else None for v in values], dtype=np.float64)


def measured(evals: list[Line]) -> list[str]:
    """Names of the measures in evaluations, besides the loss."""
    found = dict.fromkeys(key for row in evals for key, value in row.items() if isinstance(value, int | float))
    return [key for key in found if key not in GIVEN and np.isfinite(column(evals, key)).any()]


def best(evals: list[Line]) -> Line | None:
    """The evaluation whose weights the run kept: the last that it called best, by whatever measure; else of the lowest loss."""
    said = [line for line in evals if line.get("best")]
    losses = column(evals, "loss")
    return said[-1] if said else evals[int(np.nanargmin(losses))] if np.isfinite(losses).any() else None


def facts(metrics: Metrics, targets: str = "tokens") -> list[tuple[str, str]]:
    """(name, value) of the training run, which learnt `targets`; none where no step is recorded."""
    train = metrics.train
    if not train:
        return []
    seconds, tokens, memory = (column(train, key) for key in ("seconds", "tokens", "memory_gib"))
    found = [
        ("steps", f"{train[-1]['step']:,}"),
        (f"{targets} learnt", number(int(np.nansum(column(train, "targets"))))),
        ("time in steps", str(timedelta(seconds=round(np.nansum(seconds))))),
    ]
    if np.isfinite(speeds := tokens / seconds).any():
        found.append(("tokens/s, median", f"{np.nanmedian(speeds):,.0f}"))
    if (memory > 0).any():  # none is measured on the CPU
        found.append(("peak memory", f"{np.nanmax(memory):.1f} GiB"))
    if line := best(metrics.evals):
        loss = f"loss {line['loss']:.3f} " if np.isfinite(column([line], "loss")[0]) else ""
        found.append(("best evaluation", f"{loss}at step {line['step']:,}"))
    return found
