"""Rows of a dataset -> the tensors that a model takes: one long sequence without padding between rows."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from nlpft.types import IGNORE


class Columns:
    """The token columns of a dataset as flat arrays; a row is a slice, not a copy."""

    def __init__(self, rows: pa.Table | pa.RecordBatch) -> None:
        table = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
        table = table.select(["input_ids", "labels"]).combine_chunks()
        chunks = [table.column(name).chunk(0) for name in ("input_ids", "labels")]
        self.offsets = chunks[0].offsets.to_numpy()
        self.input_ids, self.labels = (chunk.values.to_numpy() for chunk in chunks)
        self.lengths = np.diff(self.offsets)

    def row(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Token ids and labels of a row, int32 [tokens]."""
        part = slice(self.offsets[number], self.offsets[number + 1])
        return self.input_ids[part], self.labels[part]


def collate(columns: Columns, rows: Sequence[int], pad_to: int = 0, pad_id: int = 0) -> dict[str, Tensor]:
    """`rows` one behind the other, int64, all [1, time].

    input_ids     padded with `pad_id` to at least `pad_to` tokens (static shapes for a compiler; 0: none)
    labels        IGNORE on padding and on the first token of each row, which nothing before it should predict
    position_ids  start again at 0 with each row, and with the padding: so attention knows where one ends
    """
    lengths = [int(columns.lengths[row]) for row in rows]
    total = max(sum(lengths), pad_to, 1)
    input_ids = np.full(total, pad_id, np.int64)
    labels = np.full(total, IGNORE, np.int64)
    position_ids = np.zeros(total, np.int64)
    start = 0
    for row, length in zip(rows, lengths, strict=True):
        end = start + length
        input_ids[start:end], labels[start:end] = columns.row(row)
        labels[start] = IGNORE
        position_ids[start:end] = np.arange(length)
        start = end
    position_ids[start:] = np.arange(total - start)
    arrays = {"input_ids": input_ids, "labels": labels, "position_ids": position_ids}
    return {name: torch.from_numpy(array)[None] for name, array in arrays.items()}
