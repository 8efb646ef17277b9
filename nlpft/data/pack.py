"""Packing is a plan, not a rewrite: which rows share a sequence. The tokens stay where they are."""

import bisect
from collections.abc import Callable

import numpy as np

Plan = Callable[
    [np.ndarray, int, np.ndarray | None], list[list[int]]
]  # as `pack`, whose number of packs knows no order


def pack(lengths: np.ndarray, max_length: int, order: np.ndarray | None = None) -> list[list[int]]:
    """Best-fit decreasing (Johnson 1974): packs of row numbers whose lengths sum to at most `max_length` tokens.

    lengths: [rows], tokens. order: [rows], a permutation that decides among rows of equal length; how many packs there are
    does not depend on it. Raises ValueError where a row is longer than a pack.
    """
    if lengths.max(initial=0) > max_length:
        raise ValueError(f"a row of {lengths.max()} tokens does not fit into a pack of {max_length}")
    order = np.arange(len(lengths)) if order is None else order
    packs: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free tokens, pack), sorted
    for row in order[np.argsort(-lengths[order], kind="stable")].tolist():
        need = int(lengths[row])
        at = bisect.bisect_left(room, (need, -1))
        if at < len(room):
            free, where = room.pop(at)
        else:
            free, where = max_length, len(packs)
            packs.append([])
        packs[where].append(row)
        bisect.insort(room, (free - need, where))
    return packs


def rectangles(lengths: np.ndarray, max_length: int, order: np.ndarray | None = None) -> list[list[int]]:
    """Groups of rows of like length: so many that, padded to the longest, they have at most `max_length` tokens.

    lengths, order: as in `pack`. Raises ValueError where a row is longer than a group may be.
    """
    if lengths.max(initial=0) > max_length:
        raise ValueError(f"a row of {lengths.max()} tokens does not fit into {max_length}")
    order = np.arange(len(lengths)) if order is None else order
    groups: list[list[int]] = []
    for row in order[np.argsort(-lengths[order], kind="stable")].tolist():
        if not groups or int(lengths[groups[-1][0]]) * (len(groups[-1]) + 1) > max_length:
            groups.append([])
        groups[-1].append(row)
    return groups
