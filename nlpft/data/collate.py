"""Rows of a dataset -> the tensors that a model takes: one long sequence without padding between rows."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from nlpft.errors import DataError
from nlpft.types import IGNORE


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
