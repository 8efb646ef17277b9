"""Encoded rows of a dataset before they are parted into splits."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa


class Batch(NamedTuple):
    """Rows of ids with their targets, and what was found out while they were encoded."""

    ids: np.ndarray  # int32 [tokens]
    offsets: np.ndarray  # int64 [rows + 1]
    pair_start: np.ndarray  # int32 [rows]
    lost: np.ndarray  # int64 [rows]: tokens that did not fit
    target: pa.Array  # [rows]: the column `target` or `labels`
    bad: dict[int, tuple[str, str]]  # reason and detail, by number of the row
    notes: dict[int, tuple[str, ...]]  # repairs, by number of the row


def taken(ids: np.ndarray, offsets: np.ndarray, rows: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ids of some rows, one row behind the other, and where each begins and ends."""
    chosen = np.asarray(rows, np.int64)
    lengths = np.diff(offsets)[chosen]
    ends = np.cumsum(lengths, dtype=np.int64)
    places = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(offsets[:-1][chosen] - (ends - lengths), lengths)
    return ids[places], np.concatenate(([0], ends))
