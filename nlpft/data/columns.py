"""Arrow columns straight from buffers: `pa.array` and `to_numpy` import pandas (0.7 s) to see whether it is wanted."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


def int32(numbers: np.ndarray) -> pa.Array:
    """Integers [n], without a copy where they are int32 already."""
    numbers = np.ascontiguousarray(numbers, np.int32)
    return pa.Array.from_buffers(pa.int32(), len(numbers), [None, pa.py_buffer(numbers)])


def strings(texts: Sequence[str]) -> pa.Array:
    """Texts [n] as UTF-8."""
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    ends = np.cumsum([0, *map(len, encoded)]).astype(np.int32)
    return pa.Array.from_buffers(pa.string(), len(texts), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))])


def lists(numbers: np.ndarray, offsets: np.ndarray) -> pa.Array:
    """Lists [n] of integers: `numbers` cut at `offsets` [n + 1]."""
    return pa.ListArray.from_arrays(int32(offsets), int32(numbers))


def values(array: pa.Array) -> np.ndarray:
    """Integers [n] of an int32 array without nulls, without a copy."""
    if not len(array):  # it may have no buffer at all
        return np.empty(0, np.int32)
    return np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array)]
