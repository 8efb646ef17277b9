"""Metrics of nlpft/metrics over written answers: texts as they stand, or read as labels or tags where a metric compares those."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

from nlpft import plugins
from nlpft.errors import ConfigError

CLASSES = 1000  # references that differ: with more, they are no labels
NO_LABEL = -1


class Found(NamedTuple):
    """What metrics say of the answers."""

    values: dict[str, float]  # by "metric" or "metric_value"
    per_row: dict[str, list[float]]  # of metrics that are the mean over rows
    unparsed: dict[
        str, int
    ]  # by metric: answers that are no label, or not as many tags as the reference; they count as wrong


def check(names: Sequence[str], references: Sequence[str]) -> dict[str, ModuleType]:
    """The metrics called `names`. Raises ConfigError for one that does not exist, or that cannot compare such references."""
    chosen = {name: plugins.load("metrics", name) for name in names}
    kinds = {module.KIND: name for name, module in chosen.items()}
    unwritten = next((name for kind, name in kinds.items() if kind not in READ), None)
    if unwritten:
        raise ConfigError(
            f"--metrics {unwritten}: compares {chosen[unwritten].KIND} of models with heads, not written answers"
        )
    classes = len({r.strip() for r in references})
    if "label" in kinds and classes > min(CLASSES, max(2, len(references) // 2)):
        raise ConfigError(
            f"--metrics {kinds['label']}: compares labels, and the {len(references)} reference answers are {classes} different "
            "texts; take rouge, chrf or exact_match"
        )
    odd = next((r for r in references if "tags" in kinds and not all(map(_is_tag, r.split()))), None)
    if odd is not None:
        raise ConfigError(f"--metrics {kinds['tags']}: a reference answer is not a list of BIO tags: {odd[:60]!r}")
    return chosen


def compute(chosen: dict[str, ModuleType], written: Sequence[str], references: Sequence[str]) -> Found:
    """The values of `chosen` metrics. written, references: texts, one of each for a row."""
    values: dict[str, float] = {}
    per_row: dict[str, list[float]] = {}
    unparsed = {}
    for name, module in chosen.items():
        said, true, options, unparsed[name] = READ[module.KIND](written, references)
        found = module.Metric().compute(predictions=said, references=true, **_taken(module, options))
        values |= {named(name, key): float(found[key]) for key in module.VALUES}
        per_row |= module.rows(said, true) if hasattr(module, "rows") else {}
    return Found(values, per_row, unparsed)


def named(name: str, key: str) -> str:
    """What results.json calls value `key` of metric `name`."""
    return key if key.startswith(name) else f"{name}_{key.removeprefix('overall_')}" if key != "score" else name


def _taken(module: ModuleType, options: dict[str, Any]) -> dict[str, Any]:
    names = module.Metric._compute.__code__.co_varnames
    return {key: value for key, value in options.items() if key in names}


def _texts(written: Sequence[str], references: Sequence[str]) -> tuple[Any, Any, dict[str, Any], int]:
    return list(written), list(references), {}, 0


def _labels(written: Sequence[str], references: Sequence[str]) -> tuple[Any, Any, dict[str, Any], int]:
    numbers = {text: i for i, text in enumerate(sorted({r.strip() for r in references}))}
    said = [numbers.get(text.strip(), NO_LABEL) for text in written]
    return said, [numbers[r.strip()] for r in references], {"labels": list(numbers.values())}, said.count(NO_LABEL)


def _tags(written: Sequence[str], references: Sequence[str]) -> tuple[Any, Any, dict[str, Any], int]:
    true = [r.split() for r in references]
    said = [text.split() for text in written]
    odd = [len(s) != len(t) or not all(map(_is_tag, s)) for s, t in zip(said, true, strict=True)]
    return [["O"] * len(t) if o else s for s, t, o in zip(said, true, odd, strict=True)], true, {}, sum(odd)


def _is_tag(text: str) -> bool:
    return text == "O" or (text[:2] in ("B-", "I-", "E-", "S-") and len(text) > 2)


READ = {"text": _texts, "label": _labels, "tags": _tags}
