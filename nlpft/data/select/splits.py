"""Splits and mixture weights that a row's content and a seed decide (weighted rendezvous hashing, Thaler and Ravishankar 1998).

A row goes to the split with the least -ln(u) / share, u being uniform and drawn from (content, seed, name of the split). So rows
of equal content share a split; neither other rows nor the order of the splits matter; and between two settings of the shares a
row moves from a to b only if b's share grew in relation to a's. Where one split grows and the others keep their proportions, or
one is added, it only takes rows in; where one shrinks or goes, it only gives.
"""

import fnmatch
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from nlpft.data.select.keys import uniform
from nlpft.errors import ConfigError


class Split(NamedTuple):
    """A part of the dataset."""

    name: str
    share: float  # of the rows, above 0


def parse_splits(settings: Sequence[str]) -> tuple[Split, ...]:
    """('train=0.98', 'eval=0.02') as splits, () as none. Raises ConfigError where the shares do not add up to 1."""
    splits = tuple(Split(*_setting(text, "splits", "train=0.98")) for text in settings)
    for split in splits:
        if not re.fullmatch(r"\w[\w-]*", split.name):
            raise ConfigError(f"splits {split.name}={split.share:g}: a name has letters, digits, - and _ only")
        if not split.share > 0:
            raise ConfigError(f"splits {split.name}={split.share:g}: a share is above 0")
    if len({split.name for split in splits}) < len(splits):
        raise ConfigError(f"splits {' '.join(settings)}: a name stands twice")
    if splits and abs(sum(split.share for split in splits) - 1) > 1e-6:
        raise ConfigError(f"splits {' '.join(settings)}: the shares add up to {sum(s.share for s in splits):g}, not 1")
    return splits


def split_of(key: int, seed: int, splits: Sequence[Split]) -> str:
    """Name of the split of a row with this content key; '' where there are no splits."""
    if len(splits) < 2:
        return splits[0].name if splits else ""
    return min((-math.log(uniform(key, seed, f"split {name}")) / share, name) for name, share in splits)[1]


def copies(key: int, seed: int, weight: float) -> int:
    """How many times a row is taken: 0 or 1 at 0.3 (1 for three rows in ten), 2 or 3 at 2.5. Never falls as `weight` grows."""
    whole = math.floor(weight)
    return whole + (uniform(key, seed, "copies") < weight - whole)


def weights(files: Sequence[str], settings: Sequence[str]) -> dict[str, float]:
    """The weight of each file, by settings 'FILE_OR_GLOB=WEIGHT'; the last that fits counts, 1 where none does.

    Raises ConfigError where a weight is no number from 0 up, or a setting fits no file.
    """
    found = dict.fromkeys(files, 1.0)
    for text in settings:
        pattern, weight = _setting(text, "weights", "chats.jsonl=0.3")
        if weight < 0:
            raise ConfigError(f"weights {text}: a weight is 0 or more")
        fitting = [file for file in files if file == pattern or fnmatch.fnmatchcase(file, pattern)]
        if not fitting:
            raise ConfigError(f"weights {text}: no input has such a name; the inputs: {', '.join(files)}")
        found.update(dict.fromkeys(fitting, weight))
    return found


def _setting(text: str, key: str, example: str) -> tuple[str, float]:
    """'NAME=NUMBER' as name and number; names of files may hold '='."""
    name, _, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not name or not math.isfinite(value):
        raise ConfigError(f"{key} {text}: write a name, = and a number, as in {example}")
    return name, value
