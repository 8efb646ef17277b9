"""Token sequences as a prefix tree laid flat: what several begin with stands once, and a mask says who sees whom.

The mask is that of tree attention (Miao et al. 2024, "SpecInfer"); here the sequences are given, not guessed.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

MIN_SHARED = 8  # tokens: to share a shorter beginning of otherwise different sequences costs more calls than it saves


class Segment(NamedTuple):
    """Tokens between two forks, at [start, end) of the flat order; their descendants follow up to `last`."""

    start: int
    end: int
    parent: int  # number of the segment before it; -1: it begins a sequence
    offset: int  # tokens before it in its sequences
    last: int


class PrefixTree(NamedTuple):
    ids: np.ndarray  # [tokens] int64, parents before children
    positions: np.ndarray  # [tokens] int64, place in the sequence
    lasts: (
        np.ndarray
    )  # [tokens] int64: the tokens after which no descendant follows; j is before i where j <= i < lasts[j]
    segments: tuple[Segment, ...]
    ends: tuple[int, ...]  # for each sequence, the segment in which it ends


class Cell(NamedTuple):
    """Tokens [start, end) that attend at once: to the tokens in `before`, all of them, and to each other as the tree says."""

    start: int
    end: int
    before: tuple[tuple[int, int], ...]


def build(sequences: Sequence[Sequence[int]]) -> PrefixTree:
    """The tree of `sequences` of token ids, none of them empty."""
    order = sorted(range(len(sequences)), key=lambda i: list(sequences[i]))
    rows = [np.asarray(sequences[i], np.int64) for i in order]
    alike = [0, *(_shared(a, b) for a, b in itertools.pairwise(rows))]
    open_ranges = [(low, high, 0, -1) for low, high in reversed(list(_split(alike, 0, len(rows), 0)))]
    ids, made, ends, size = [], [], [0] * len(rows), 0
    while open_ranges:
        low, high, begin, parent = open_ranges.pop()
        end = min(alike[low + 1 : high], default=len(rows[low]))
        made.append((size, size + end - begin, parent, begin))
        ids.append(rows[low][begin:end])
        size += end - begin
        number = len(made) - 1
        while low < high and len(rows[low]) == end:  # those that end here come first
            ends[order[low]] = number
            low += 1
        open_ranges += [(*part, end, number) for part in reversed(list(_split(alike, low, high, end)))]
    segments = _with_lasts(made)
    sizes = [s.end - s.start for s in segments]
    positions = np.concatenate([np.arange(s.offset, s.offset + n) for s, n in zip(segments, sizes, strict=True)])
    lasts = np.repeat([s.last for s in segments], sizes)
    return PrefixTree(np.concatenate(ids), positions, lasts, segments, tuple(ends))


def path(tree: PrefixTree, sequence: int, count: int | None = None) -> np.ndarray:
    """Flat places [count] of the last `count` tokens of a sequence, or of all of them."""
    number, parts, found = tree.ends[sequence], [], 0
    while number >= 0 and (count is None or found < count):
        segment = tree.segments[number]
        parts.append(np.arange(segment.start, segment.end))
        found += segment.end - segment.start
        number = segment.parent
    whole = np.concatenate(parts[::-1])
    return whole if count is None else whole[len(whole) - count :]


def cells(tree: PrefixTree, limit: int) -> Iterator[Cell]:
    """Cells that together hold every token: whole subtrees, alone or beside their siblings, of up to `limit` tokens.

    Where a subtree is larger, its first segment is a cell by itself, and its children are divided in turn.
    """
    children: dict[int, list[int]] = {}
    for number, segment in enumerate(tree.segments):
        children.setdefault(segment.parent, []).append(number)
    waiting: list[tuple[int, tuple[tuple[int, int], ...]]] = [(-1, ())]
    while waiting:
        parent, before = waiting.pop()
        start = end = -1
        for number in children.get(parent, ()):
            segment = tree.segments[number]
            small = segment.last - segment.start <= limit
            # Without a common beginning nothing is saved by one cell for several: its mask would be mostly empty.
            if start >= 0 and not (small and before and segment.last - start <= limit):
                yield Cell(start, end, before)
                start = -1
            if not small:
                yield Cell(segment.start, segment.end, before)
                waiting.append((number, (*before, (segment.start, segment.end))))
                continue
            start, end = segment.start if start < 0 else start, segment.last
        if start >= 0:
            yield Cell(start, end, before)


def mask(tree: PrefixTree, cell: Cell) -> np.ndarray:
    """Whether a token of `cell` [queries] sees one of the tokens before and in it [keys]: boolean, [queries, keys]."""
    places = np.arange(cell.start, cell.end)
    own = (places <= places[:, None]) & (places[:, None] < tree.lasts[cell.start : cell.end])
    before = sum(end - start for start, end in cell.before)
    return np.concatenate([np.ones((len(places), before), bool), own], axis=1)


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens with which both begin."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _shared(one: np.ndarray, other: np.ndarray) -> int:
    """Tokens with which both begin; 0 where they are few and neither sequence ends there."""
    size = min(len(one), len(other))
    differ = np.flatnonzero(one[:size] != other[:size])
    count = int(differ[0]) if len(differ) else size
    return count if count >= MIN_SHARED or count == size else 0


def _split(alike: Sequence[int], low: int, high: int, depth: int) -> Iterator[tuple[int, int]]:
    """Ranges of sorted rows [low, high) that go on alike behind `depth` tokens."""
    first = low
    for i in range(low + 1, high + 1):
        if i == high or alike[i] <= depth:
            yield first, i
            first = i


def _with_lasts(made: Sequence[tuple[int, int, int, int]]) -> tuple[Segment, ...]:
    lasts = [end for _, end, _, _ in made]
    for number in range(len(made) - 1, -1, -1):
        parent = made[number][2]
        if parent >= 0:
            lasts[parent] = max(lasts[parent], lasts[number])
    return tuple(Segment(*segment, last) for segment, last in zip(made, lasts, strict=True))
