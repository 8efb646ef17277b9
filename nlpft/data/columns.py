"""Arrow columns straight from buffers: `pa.array` and `to_numpy` import pandas (0.7 s) to see whether it is wanted."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


def int32(numbers: np.ndarray) -> pa.Array:
    """Integers [n], without a copy where they are int32 already."""
    numbers = np.ascontiguousarray(numbers, np.int32)
    return pa.Array.from_buffers(pa.int32(), len(numbers), [None, pa.py_buffer(numbers)])


def int64(numbers: np.ndarray) -> pa.Array:
    """Integers [n], without a copy where they are int64 already."""
    numbers = np.ascontiguousarray(numbers, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(numbers)])


def strings(texts: Sequence[str]) -> pa.Array:
    """Texts [n] as UTF-8."""
    return _joined(pa.string(), [text.encode("utf-8", "surrogatepass") for text in texts])


def binary(texts: Sequence[bytes]) -> pa.Array:
    """Byte strings [n]."""
    return _joined(pa.binary(), texts)


def _joined(kind: pa.DataType, texts: Sequence[bytes]) -> pa.Array:
    ends = np.cumsum([0, *map(len, texts)]).astype(np.int32)
    return pa.Array.from_buffers(kind, len(texts), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(texts))])


def lists(numbers: np.ndarray, offsets: np.ndarray) -> pa.Array:
    """Lists [n] of integers: `numbers` cut at `offsets` [n + 1]."""
    return pa.ListArray.from_arrays(int32(offsets), int32(numbers))


def values(array: pa.Array) -> np.ndarray:
    """Integers [n] of an int32 array without nulls, without a copy."""
    if not len(array):  # it may have no buffer at all
        return np.empty(0, np.int32)
    return np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array)]
