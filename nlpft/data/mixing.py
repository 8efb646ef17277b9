"""Rows mixed in training: features of two texts by a share (mixup), or a run of one row's tagged words put into another (CutMix).

Both are functions of the seed, the epoch and the rows' numbers, so a step can be made again however it is cut.
"""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import numpy as np

from nlpft.data.labelled.augment import Word, run
from nlpft.types import IGNORE


class Tagged(NamedTuple):
    """Rows of tagged words as tokens."""

    ids: np.ndarray  # [tokens]
    offsets: np.ndarray  # [rows + 1], where each row begins and the last one ends
    labels: np.ndarray  # [tokens] int64: the tag on each word's first piece, IGNORE elsewhere


def pairs(rows: Sequence[int], alpha: float, place: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The partner of each of `rows`, int64 [rows] counted within them, and each one's own share, float32 [rows].

    Neighbours are partners and have one share, drawn from Beta(alpha, alpha) (Zhang et al. 2018); what is left over is its own
    partner. place: seed and epoch.
    """
    partner = np.arange(max(1, len(rows))) ^ 1
    share = np.ones(len(partner), np.float32)
    if len(partner) % 2:
        partner[-1] -= 1
    for at in range(0, len(partner) - 1, 2):
        share[at : at + 2] = np.random.default_rng((*place, *rows[at : at + 2])).beta(alpha, alpha)
    return partner, share


def spans(rows: Tagged, names: Sequence[str], probability: float, place: tuple[int, int], longest: int) -> Tagged:
    """`rows`, of which each has, with a probability, a run of up to half of its words replaced by one of another row.

    names: of the tags, in BIO. No span is cut (a run goes on to its end), a row's last word stays, and so does a row that would
    have more than `longest` tokens. place: seed and epoch.
    """
    ids, labels = [], []
    count = len(rows.offsets) - 1
    for row in range(count):
        draw = Random(f"{place} {row} cut-mix")
        parts = [slice(rows.offsets[row], rows.offsets[row + 1])]
        if draw.random() < probability and count > 1:
            other = (row + draw.randrange(1, count)) % count
            parts = _parts(rows, names, row, other, draw) or parts
        if sum(part.stop - part.start for part in parts) > longest:
            parts = [slice(rows.offsets[row], rows.offsets[row + 1])]
        ids.append(np.concatenate([rows.ids[part] for part in parts]))
        labels.append(np.concatenate([rows.labels[part] for part in parts]))
    offsets = np.concatenate(([0], np.cumsum([len(row) for row in ids])))
    return Tagged(np.concatenate(ids), offsets, np.concatenate(labels))


def _parts(rows: Tagged, names: Sequence[str], row: int, other: int, draw: Random) -> list[slice] | None:
    """Tokens of `row`, of `other`, and of `row` again; None where a row is too short, or its last word would go."""
    starts, tags = zip(*(_words(rows, names, number) for number in (row, other)), strict=True)
    if min(map(len, tags)) < 2:
        return None
    size = draw.randint(1, len(tags[0]) // 2)
    (start, end), (begin, stop) = (run(words, size, draw) for words in tags)
    if end >= len(tags[0]) or stop >= len(tags[1]):  # where a last word ends and special tokens begin, no label says
        return None
    first, last = rows.offsets[row], rows.offsets[row + 1]
    replaced = slice(starts[1][begin], starts[1][stop])
    return [slice(first, starts[0][start]), replaced, slice(starts[0][end], last)]


def _words(rows: Tagged, names: Sequence[str], row: int) -> tuple[np.ndarray, list[Word]]:
    """Where each word of a row begins among all tokens, and its tag."""
    first = rows.offsets[row]
    starts = first + np.flatnonzero(rows.labels[first : rows.offsets[row + 1]] != IGNORE)
    return starts, [Word("", names[tag]) for tag in rows.labels[starts].tolist()]
