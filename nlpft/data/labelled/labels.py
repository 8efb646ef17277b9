"""Labels as files have them -> targets as heads take them: class ids, vectors of 0 and 1, or numbers."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nlpft.data.labelled.options import LabelOptions
from nlpft.errors import ConfigError, DataError, RowRejected

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
UNSEEN = "label unseen in training"
NO_NUMBER, NO_BIT = "target is no number", "label is neither 0 nor 1"
NUMBERS = 0.9  # share of the labels that are numbers, from which on the others are mistakes

Target = int | float | list[float]


@dataclass(frozen=True)
class Labels:
    """What the labels of a dataset mean."""

    problem_type: str  # transformers' name
    names: tuple[str, ...] = ()  # their order is that of the ids; none for regression
    separator: str = ""  # of several labels in one text
    aliases: Mapping[str, str] | None = None  # a label of the files -> its name, where names are given for numbers

    def target(self, label: Any) -> Target:
        """The target of a row. Raises RowRejected where the label is unknown or no number."""
        if self.problem_type == REGRESSION:
            return number(label)
        named = self.named(label)
        for name in named:
            if name not in self._ids:
                raise RowRejected(UNSEEN, name)
        if self.problem_type == SINGLE:
            return self._ids[named[0]]
        return [float(name in named) for name in self.names]

    def named(self, label: Any) -> list[str]:
        """The names of a row's labels. Raises RowRejected as `parts` does."""
        return [(self.aliases or {}).get(name, name) for name in parts(label, self.separator)]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}


def learn(labels: Sequence[Any], options: LabelOptions, name: str) -> Labels:
    """What the labels of the training split, `name`, say. Raises DataError where there is one class only."""
    kind = options.problem_type if options.problem_type != "auto" else _problem_type(labels, options)
    if kind == REGRESSION:
        return Labels(REGRESSION)
    counts: Counter[str] = Counter()
    for label in labels:
        counts.update(parts_or_none(label, options.label_separator))
    if len(counts) < 2 and kind == SINGLE:
        only = f"only {next(iter(counts))!r}" if counts else "none"
        raise DataError(
            f"{name}: a classifier needs two labels or more, and there is {only}; is --columns.label right?"
        )
    if not counts:
        raise DataError(f"{name}: no row has any label; is --columns.label right?")
    names = in_order(counts)
    aliases = _aliases(names, options.label_names) if options.label_names else None
    return Labels(kind, options.label_names or tuple(names), options.label_separator, aliases)


def _problem_type(labels: Sequence[Any], options: LabelOptions) -> str:
    if options.label_separator or any(isinstance(label, list | Mapping) for label in labels):
        return MULTI
    numbers = [label for label in labels if math.isfinite(number_or(label, math.nan))]
    fractions = any("." in label if isinstance(label, str) else label % 1 for label in numbers)
    return REGRESSION if fractions and len(numbers) >= NUMBERS * len(labels) else SINGLE


def number(label: Any) -> float:
    """A regression's target. Raises RowRejected where it is no finite number."""
    try:
        found = float(label)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise RowRejected(NO_NUMBER, repr(label)[:60])
    return found


def number_or(label: Any, other: float) -> float:
    """A regression's target, or `other` where a label is no number."""
    try:
        return number(label)
    except RowRejected:
        return other


def parts(label: Any, separator: str = "") -> list[str]:
    """Names of a row's labels. Raises RowRejected where a column of 0 and 1 holds anything else."""
    if isinstance(label, Mapping):
        return [name for name, value in label.items() if _bit(name, value)]
    if isinstance(label, list | tuple):
        return [_name(item) for item in label]
    if separator:
        return [part.strip() for part in str(label).split(separator) if part.strip()]
    return [_name(label)]


def parts_or_none(label: Any, separator: str) -> list[str]:
    """The names of a row's labels, or all columns that may be one; none where they cannot be read."""
    try:
        return list(label) if isinstance(label, Mapping) else parts(label, separator)
    except RowRejected:
        return []


def _bit(name: str, value: Any) -> bool:
    found = {"1": True, "0": False, "1.0": True, "0.0": False, "True": True, "False": False}.get(str(value).strip())
    if found is None:
        raise RowRejected(NO_BIT, f"{name}: {value!r}"[:60])
    return found


def _name(label: Any) -> str:
    """The name of a label: parquet makes 1.0 of 1 where a label is missing."""
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(label).strip()


def in_order(names: Counter[str] | Sequence[str]) -> list[str]:
    """Names sorted: whole numbers by their value, others by the alphabet."""
    whole = all(name.lstrip("-").isdecimal() for name in names)
    return sorted(names, key=lambda name: (int(name) if whole else 0, name))


def _aliases(found: Sequence[str], given: Sequence[str]) -> dict[str, str]:
    """The given name of each label of the files. Raises ConfigError where they do not go together."""
    if set(found) <= set(given):
        return {}
    if all(name.isdecimal() for name in found):
        first = 0 if "0" in found else 1
        numbered = {str(number): name for number, name in enumerate(given, first)}
        if set(found) <= set(numbered):
            return numbered
    unknown = [name for name in found if name not in given]
    raise ConfigError(f"label_names {' '.join(given)}: the files have other labels too: {', '.join(unknown[:10])}")


def in_words(target: Any, problem_type: str, names: Sequence[str]) -> str:
    """A row's target as people read it."""
    if problem_type == REGRESSION:
        return f"{target:g}"
    if problem_type == MULTI:
        return ", ".join(name for name, bit in zip(names, target, strict=True) if bit) or "no label"
    return names[target]
