"""Splits and folds in which every label has the same proportion and equal texts stay together.

Iterative stratification (Sechidis et al. 2011, On the Stratification of Multi-Label Data) over groups of rows with one key: from
the rarest label on, each group goes where that label is wanted most. With one label a row it is plain stratification. The
packages for it (iterative-stratification, scikit-multilearn) know no groups. Ties are broken by the key and the seed, so the
order of the rows in their files changes nothing.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from nlpft.data.select.keys import WORD, uniform
from nlpft.errors import DataError

BINS = 10  # of a regression's targets


class Group(NamedTuple):
    """Rows of one key."""

    key: int
    rows: list[int]
    labels: Counter[Hashable]  # how many of the rows have each


def assign(keys: Sequence[int], labels: Sequence[Sequence[Hashable]], shares: Sequence[float], seed: int) -> np.ndarray:
    """The part of each row, int64 [rows], where part i has about `shares[i]` of all rows and of the rows of each label.

    labels: of each row, none or several. Rows of equal `keys` share a part.
    """
    groups = _groups(keys, labels)
    total: Counter[Hashable] = sum((group.labels for group in groups.values()), Counter())
    wanted = {label: [share * count for share in shares] for label, count in total.items()}
    room = [share * len(keys) for share in shares]
    parts = np.full(len(keys), -1, np.int64)
    for label in _rarest_first(total):
        members = [group for group in groups.values() if label in group.labels and parts[group.rows[0]] < 0]
        for group in sorted(members, key=lambda group: (-len(group.rows), uniform(group.key, seed, "stratum"))):
            _place(group, _best(group, wanted[label], room, seed), parts, wanted, room)
    for group in sorted(groups.values(), key=lambda group: (-len(group.rows), uniform(group.key, seed, "stratum"))):
        if parts[group.rows[0]] < 0:  # without any label
            _place(group, _best(group, room, room, seed), parts, wanted, room)
    return parts


def _groups(keys: Sequence[int], labels: Sequence[Sequence[Hashable]]) -> dict[int, Group]:
    groups: dict[int, Group] = {}
    for row, (key, own) in enumerate(zip(keys, labels, strict=True)):
        key = int(key) & WORD  # in tables keys are signed
        group = groups.setdefault(key, Group(key, [], Counter()))
        group.rows.append(row)
        group.labels.update(set(own))
    return groups


def _rarest_first(total: Counter[Hashable]) -> list[Hashable]:
    return sorted(total, key=lambda label: (total[label], str(label)))


def _best(group: Group, wanted: Sequence[float], room: Sequence[float], seed: int) -> int:
    """The part that wants the label most; of several, the one with the most room."""

    def rank(part: int) -> tuple[float, float, float]:
        return round(wanted[part], 6), round(room[part], 6), uniform(group.key, seed, f"part {part}")

    return max(range(len(room)), key=rank)


def _place(group: Group, part: int, parts: np.ndarray, wanted: dict[Hashable, list[float]], room: list[float]) -> None:
    parts[group.rows] = part
    room[part] -= len(group.rows)
    for label, count in group.labels.items():
        wanted[label][part] -= count


def folds(keys: Sequence[int], labels: Sequence[Sequence[Hashable]], count: int, seed: int = 0) -> np.ndarray:
    """The fold of each row, int64 [rows], 0 to count - 1: `assign` with equal shares.

    Raises DataError where there are fewer different texts than folds.
    """
    if not 2 <= count <= len(set(keys)):
        raise DataError(f"{count} folds of {len(set(keys))} different texts: take from 2 to as many as there are texts")
    return assign(keys, labels, [1 / count] * count, seed)


def bins(values: Sequence[float], count: int = BINS) -> list[tuple[int]]:
    """Regression targets as labels: which of `count` quantiles each value is in."""
    found = np.asarray(values, np.float64)
    edges = np.unique(np.quantile(found, np.linspace(0, 1, count + 1)[1:-1])) if len(found) else found
    return [(int(place),) for place in np.searchsorted(edges, found, side="right")]
