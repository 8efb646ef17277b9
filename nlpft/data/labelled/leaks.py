"""Texts that stand in more than one split, or twice in one: counted with their places, or left out of the training split."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from nlpft.data.labelled.example import Example, Row
from nlpft.data.ledger import LEAK as LEAK
from nlpft.data.ledger import SAME_LABELLED as SAME

PLACES = 3  # that are named


class Leak(NamedTuple):
    """What two splits share."""

    splits: tuple[str, str]
    rows: int  # of the first split whose text is in the second
    other_label: int  # of them, that have another label there
    places: list[tuple[str, str]]  # some of them

    def as_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "other_label": self.other_label, "places": [list(pair) for pair in self.places]}


def between(rows: Sequence[Row], keys: Sequence[int], splits: Sequence[str]) -> list[Leak]:
    """The leaks of each pair of splits, in the order in which splits appear."""
    by_split: dict[str, dict[int, list[Example]]] = {}
    for row, key, split in zip(rows, keys, splits, strict=True):
        if isinstance(row, Example):
            by_split.setdefault(split, {}).setdefault(key, []).append(row)
    names = list(by_split)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    return [leak for a, b in pairs if (leak := _leak((a, b), by_split[a], by_split[b])).rows]


def _leak(splits: tuple[str, str], first: dict[int, list[Example]], second: dict[int, list[Example]]) -> Leak:
    shared = [(row, second[key]) for key, own in first.items() if key in second for row in own]
    other = sum(all(_said(row) != _said(there) for there in theirs) for row, theirs in shared)
    return Leak(splits, len(shared), other, [(row.source, theirs[0].source) for row, theirs in shared[:PLACES]])


def _said(row: Example) -> Any:
    return row.tags or row.label


def dropped(rows: Sequence[Row], keys: Sequence[int], splits: Sequence[str], train: str) -> list[Row]:
    """The rows; those of the split `train` whose text another split has are rejected."""
    others = {
        key: row.source
        for row, key, split in zip(rows, keys, splits, strict=True)
        if split != train and isinstance(row, Example)
    }
    return [
        row.reject(LEAK, others[key]) if isinstance(row, Example) and split == train and key in others else row
        for row, key, split in zip(rows, keys, splits, strict=True)
    ]


def deduplicated(rows: Sequence[Row], keys: Sequence[int], splits: Sequence[str]) -> list[Row]:
    """The rows; one whose text and label an earlier row of its split has is rejected."""
    seen: defaultdict[tuple[str, int], dict[str, str]] = defaultdict(dict)
    out: list[Row] = []
    for row, key, split in zip(rows, keys, splits, strict=True):
        if isinstance(row, Example):
            first = seen[split, key].setdefault(repr(_said(row)), row.source)
            row = row if first == row.source else row.reject(SAME, first)
        out.append(row)
    return out
