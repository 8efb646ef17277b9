"""Encoded rows -> Arrow columns of a dataset for heads, and how the dataset on disk names their types.

input_ids   list<int32>    with special tokens
length      int32          tokens
source      string         'file:row'
notes       string         the row's repairs, parted by '; '
pair_start  int32          where the second text's tokens begin; 0: there is none (token types follow from it)
key         int64          equal for rows of equal text, letters' case and blanks aside
target      int32 | list<float32> | float32    class, classes as 0 and 1, or number, by the problem type
labels      list<int32>    in place of `target`, for tagged words: the tag on each word's first piece, IGNORE elsewhere
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from nlpft.data.columns import int32, lists, strings
from nlpft.data.labelled.labels import MULTI, REGRESSION, SINGLE

TAGGING = "tagging"
TARGETS = {SINGLE: pa.int32(), MULTI: pa.list_(pa.float32()), REGRESSION: pa.float32()}


def schema(problem_type: str) -> pa.Schema:
    """The columns of a dataset of one of the problem types, or TAGGING."""
    fields = [("input_ids", pa.list_(pa.int32())), ("length", pa.int32()), ("source", pa.string())]
    fields += [("notes", pa.string()), ("pair_start", pa.int32()), ("key", pa.int64())]
    last = ("labels", pa.list_(pa.int32())) if problem_type == TAGGING else ("target", TARGETS[problem_type])
    return pa.schema([*fields, last])


def batch(
    problem_type: str,
    ids: np.ndarray,
    offsets: np.ndarray,
    places: Sequence[tuple[str, str]],
    pair_start: np.ndarray,
    keys: np.ndarray,
    target: pa.Array,
) -> pa.RecordBatch:
    """Rows of ids [tokens] cut at `offsets` [rows + 1]; `places`: source and notes of each."""
    columns = [
        lists(ids, offsets),
        int32(np.diff(offsets)),
        strings([source for source, _ in places]),
        strings([notes for _, notes in places]),
        int32(pair_start),
        _numbers(keys.astype(np.int64), pa.int64()),
        target,
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema(problem_type))


def targets(values: Sequence[int | float | list[float]], problem_type: str) -> pa.Array:
    """The column `target`."""
    if problem_type == SINGLE:
        return int32(np.array(values, np.int32))
    if problem_type == REGRESSION:
        return _numbers(np.array(values, np.float32), pa.float32())
    width = len(values[0]) if values else 0  # type: ignore[arg-type]
    flat = _numbers(np.array(values, np.float32).ravel(), pa.float32())
    return pa.ListArray.from_arrays(int32(np.arange(len(values) + 1) * width), flat)


def _numbers(found: np.ndarray, kind: pa.DataType) -> pa.Array:
    found = np.ascontiguousarray(found)
    return pa.Array.from_buffers(kind, len(found), [None, pa.py_buffer(found)])
