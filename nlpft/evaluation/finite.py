"""Scores that are no numbers: NaN and infinite ones are found, make their task an error, and are null in JSON. Loads no torch."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from numbers import Real  # numpy's, too
from typing import Any

LIKELIHOODS = "log-likelihoods"


def failures(results: Mapping[str, Any], samples: Mapping[str, Iterable[Mapping[str, Any]]]) -> dict[str, str]:
    """Why a task's scores mean nothing, by task: one of them, or what they rest on, is not a finite number.

    results: values by task, as under "results" in results.json. samples: the items of each task.
    """
    found = {task: _values(values) for task, values in results.items() if isinstance(values, dict)}
    found |= {task: said for task, rows in samples.items() if (said := _items(rows))}
    return {task: f"not a finite number: {said}; no score of this task counts" for task, said in found.items() if said}


def _values(values: Mapping[str, Any]) -> str:
    """Names of the scores that are no numbers; a standard error may be none."""
    names = (key.partition(",")[0] for key, value in values.items() if _odd(value))
    return ", ".join(dict.fromkeys(name for name in names if not name.endswith("_stderr")))


def _items(rows: Iterable[Mapping[str, Any]]) -> str:
    """What is no number, and in how many items."""
    counts: Counter[str] = Counter()
    total = 0
    for row in rows:
        total += 1
        values = {metric: row.get(metric) for metric in row.get("metrics", ())}
        values |= {"loss": row["loss_sum"]} if "loss_sum" in row else {}
        counts.update(name for name, value in values.items() if value is None or _odd(value))
        counts.update([LIKELIHOODS] * _holds_nan(row.get("resps")))
    return ", ".join(f"{name} in {n:,} of {total:,} items" for name, n in counts.items())


def _odd(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_odd, value))
    return isinstance(value, Real) and not math.isfinite(value)


def _holds_nan(value: Any) -> bool:
    """Whether a log-likelihood among what a model answered is NaN; lm-eval logs them as numbers or as text.

    An infinite one is a continuation of no probability: it may be, in half precision, and leaves the choice what it is.
    """
    if isinstance(value, list | tuple):
        if len(value) == 2 and str(value[1]) in ("True", "False"):
            return value[0] is None or str(value[0]) == "nan"
        return any(map(_holds_nan, value))
    return isinstance(value, float) and math.isnan(value)


def dumps(value: Any, indent: int | None = None) -> str:
    """`value` as JSON, which has neither NaN nor Infinity: they are null."""
    return json.dumps(finite(value), indent=indent, default=str, ensure_ascii=False, allow_nan=False)


def finite(value: Any) -> Any:
    """`value` with plain numbers in place of numpy's, and None in place of those that are not finite."""
    if isinstance(value, dict):
        return {key: finite(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [finite(x) for x in value]
    if hasattr(value, "tolist"):  # of numpy
        return finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
