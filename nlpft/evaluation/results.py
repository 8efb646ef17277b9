"""Evaluation folders, in lm-evaluation-harness's own layout: results.json and samples_TASK.jsonl."""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

LOWER = ("loss", "mse", "calibration_error")  # measures of heads that are better when low
Samples = dict[str, list[dict[str, Any]]]  # task -> one dict an item


class Outcome(NamedTuple):
    """What evaluating some tasks has given."""

    results: dict[str, Any]  # lm-eval's dict
    samples: Samples
    errors: dict[str, str]  # task -> why it failed
    unparsed: dict[str, int]  # "task,filter" -> answers that could not be read


def write(folder: Path, results: dict[str, Any], samples: Samples, about: dict[str, Any]) -> None:
    """Write `results` (lm-eval's dict) to `folder`, the per-item `samples`, and under "nlpft" what was evaluated."""
    text = json.dumps({**results, "nlpft": about}, indent=2, default=plain, ensure_ascii=False)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")
    for task, rows in samples.items():
        with (folder / f"samples_{task.replace('/', '_')}.jsonl").open("w", encoding="utf-8") as out:
            out.writelines(json.dumps(row, default=plain, ensure_ascii=False) + "\n" for row in rows)


def mark(folder: Path, labels: Sequence[str]) -> None:
    """Note in `folder` that it holds evaluations, by which it may be replaced."""
    (folder / "nlpft.json").write_text(json.dumps({"evaluations": list(labels)}, indent=2) + "\n", encoding="utf-8")


def plain(value: Any) -> Any:
    """What JSON has no word for: numpy's numbers as numbers, the rest as text."""
    return value.item() if hasattr(value, "item") else str(value)


def merge(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several results dicts as one: their tasks side by side under each key."""
    merged: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
    return merged


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """Several outcomes, of different tasks, as one."""
    results, samples, errors, unparsed = zip(*outcomes, strict=True)
    return Outcome(merge(results), merge(samples), merge(errors), merge(unparsed))


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error (0 for fewer than two values)."""
    n = len(values)
    mean = sum(values) / n
    variance = sum((v - mean) ** 2 for v in values) / (n - 1) if n > 1 else 0.0
    return mean, math.sqrt(variance / n)


def text_hash(value: Any) -> str:
    """As lm-eval hashes documents, prompts and targets."""
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
