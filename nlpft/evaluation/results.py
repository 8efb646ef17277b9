"""Evaluation folders: results.json and samples_TASK.jsonl, whose contents are lm-evaluation-harness's.

lm-eval itself writes MODEL/results_TIME.json and MODEL/samples_TASK_TIME.jsonl, and each run adds a pair. Here a folder is one
evaluation, which is there as a whole or not at all, and its name is its label, so neither model nor time need be in names: what
was evaluated stands below "nlpft". Of lm-eval's keys those about the machine are left out (config, git_hash, date, environment).
"""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nlpft.evaluation.finite import dumps, failures, finite

LOWER = ("loss", "mse", "calibration_error")  # measures of heads that are better when low
Samples = dict[str, list[dict[str, Any]]]  # task -> one dict an item


class Outcome(NamedTuple):
    """What evaluating some tasks has given."""

    results: dict[str, Any]  # lm-eval's dict
    samples: Samples
    errors: dict[str, str]  # task -> why it failed
    unparsed: dict[str, int]  # "task,filter" -> answers that could not be read
    cut: dict[str, int]  # task -> answers that the model's context cut short


def write(folder: Path, results: dict[str, Any], samples: Samples, about: dict[str, Any]) -> None:
    """Write `results` (lm-eval's dict) to `folder`, the per-item `samples`, and under "nlpft" what was evaluated.

    A task with a score that is no finite number is one of its "errors", and the number null.
    """
    if failed := failures(results.get("results", {}), samples):
        about = {**about, "errors": {**failed, **about.get("errors", {})}}
    text = dumps({**results, "nlpft": about}, indent=2)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")
    for task, rows in samples.items():
        with (folder / f"samples_{task.replace('/', '_')}.jsonl").open("w", encoding="utf-8") as out:
            out.writelines(dumps(row) + "\n" for row in rows)


def mark(folder: Path, labels: Sequence[str]) -> None:
    """Note in `folder` that it holds evaluations, by which it may be replaced."""
    (folder / "nlpft.json").write_text(json.dumps({"evaluations": list(labels)}, indent=2) + "\n", encoding="utf-8")


def checked(outcome: Outcome) -> Outcome:
    """`outcome`, in which a task with a score that is no finite number has failed, and the number is None."""
    errors = {**failures(outcome.results.get("results", {}), outcome.samples), **outcome.errors}
    return outcome._replace(results=finite(outcome.results), samples=finite(outcome.samples), errors=errors)


def merge(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several results dicts as one: their tasks side by side under each key."""
    merged: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
    return merged


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """Several outcomes, of different tasks, as one."""
    return Outcome(*map(merge, zip(*outcomes, strict=True)))


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
