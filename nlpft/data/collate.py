"""Rows of a dataset -> the tensors that a model takes: one long sequence without padding between rows."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

from nlpft.errors import DataError
from nlpft.losses import next_tokens
from nlpft.types import IGNORE

TARGETS = 128  # with static shapes, learnt positions come in multiples of this: matrix products like them


class Columns:
    """The token columns of a dataset as flat arrays, one copy in memory; a row is a slice of them."""

    def __init__(self, rows: pa.Table | pa.RecordBatch) -> None:
        table = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
        ids, labels = table.column("input_ids"), table.column("labels")
        self.lengths = np.concatenate(
            [chunk.value_lengths().to_numpy() for chunk in ids.chunks] or [np.empty(0, np.int32)]
        )
        self.offsets = np.concatenate(([0], np.cumsum(self.lengths, dtype=np.int64)))
        self.input_ids, self.labels = (
            np.concatenate([c.flatten().to_numpy() for c in x.chunks]) for x in (ids, labels)
        )
        if not len(self.input_ids) == len(self.labels) == self.offsets[-1]:
            raise DataError("input_ids and labels differ in length: the dataset is damaged, convert it again")

    def row(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Token ids and labels of a row, int32 [tokens]."""
        part = slice(self.offsets[number], self.offsets[number + 1])
        return self.input_ids[part], self.labels[part]


def collate(
    columns: Columns, rows: Sequence[int], pad_to: int = 0, pad_id: int = 0, longest: int = 0
) -> dict[str, Tensor]:
    """`rows` one behind the other, int64 where nothing else is said, [1, time] where nothing else is said.

    input_ids     padded with `pad_id` to at least `pad_to` tokens (static shapes for a compiler; 0: none)
    labels        IGNORE on padding and on the first token of each row, which nothing before it should predict
    position_ids  start again at 0 with each row, and with the padding: so attention knows where one ends
    cu_seqlens    [rows + 1] int32, where each row begins and the last one ends; padding counts as rows of at most max_seqlen
    max_seqlen    [] tokens: `longest`, or the longest row's where that is not given; stays on the host
    filled        [] tokens that are no padding; stays on the host
    positions     [targets] from which a learnt token is predicted; with `pad_to`, filled up to a multiple of TARGETS
    targets       [targets] those tokens, IGNORE where filled up
    """
    lengths = columns.lengths[np.asarray(rows, np.int64)]
    filled = int(lengths.sum())
    total = max(filled, pad_to, 1)
    longest = longest or int(lengths.max(initial=1))
    bounds = np.concatenate(([0], np.cumsum(lengths), padding_bounds(filled, total, longest)))
    input_ids, labels = np.full(total, pad_id, np.int64), np.full(total, IGNORE, np.int64)
    for row, start, end in zip(rows, bounds, bounds[1:], strict=False):
        input_ids[start:end], labels[start:end] = columns.row(row)
    labels[bounds[:-1]] = IGNORE
    position_ids = np.arange(total) - np.repeat(bounds[:-1], np.diff(bounds))
    tensors = {
        name: torch.from_numpy(array)[None]
        for name, array in {"input_ids": input_ids, "labels": labels, "position_ids": position_ids}.items()
    }
    positions, targets = next_tokens(tensors["labels"])
    fill = -len(targets) % TARGETS if pad_to else 0
    return {
        **tensors,
        "cu_seqlens": torch.from_numpy(bounds.astype(np.int32)),
        "max_seqlen": torch.tensor(longest),
        "filled": torch.tensor(filled),
        "positions": F.pad(positions, (0, fill)),
        "targets": F.pad(targets, (0, fill), value=IGNORE),
    }


def padding_bounds(filled: int, total: int, longest: int) -> np.ndarray:
    """Where the padding from `filled` to `total` ends if it is cut into rows of at most `longest` tokens."""
    return np.append(np.arange(filled + longest, total, longest), total) if total > filled else np.empty(0, np.int64)
