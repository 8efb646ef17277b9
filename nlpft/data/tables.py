"""Tables as corpora: parquet (by Arrow), CSV (RFC 4180) and TSV.

A quote that has no partner costs no more than its own row: a record in quotes must end where the rules say so, or its first line
stands for itself with the quotes as text. Whether a CSV or TSV file has a header is told by its first records; without one the
columns are called '0', '1', ...
"""

import csv
import itertools
import re
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from nlpft.errors import DataError

DELIMITERS = {"csv": ",", "tsv": "\t"}
LOOKED_AT = 100  # records that tell whether the first one is a header
LARGEST_RECORD = 64 << 20  # bytes; a quote that is not closed by then is none
NAME = re.compile(r"[^\W\d][\w .:/()-]{0,63}")  # of a column
csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a field may hold a whole document; csv's own limit is 128 KiB


class Layout(NamedTuple):
    """How a CSV or TSV file is to be read."""

    columns: tuple[str, ...]
    delimiter: str


class Record(NamedTuple):
    """One record as it stands in the file."""

    text: bytes  # with its line end
    lines: int
    header: bool = False


def fields(text: str, delimiter: str) -> list[str]:
    """The fields of one record; quotes that do not follow the rules are text."""
    try:
        (row,) = csv.reader([text], delimiter=delimiter, strict=True)
    except (csv.Error, ValueError):
        return text.rstrip("\r\n").split(delimiter)
    return row


def records(lines: Iterator[bytes], delimiter: str) -> Iterator[Record]:
    """Records out of lines, in bounded memory."""
    waiting: deque[bytes] = deque()
    while line := waiting.popleft() if waiting else next(lines, b""):
        if b'"' not in line:
            yield Record(line, 1)
            continue
        taken: list[bytes] = []
        count = _quoted(itertools.chain([line], _consumed(waiting), lines), taken, delimiter)
        if count > 1 and delimiter == "\t" and _rows_by_themselves(taken, delimiter):
            count = 1
        yield Record(b"".join(taken[:count]), count)
        waiting.extendleft(reversed(taken[count:]))


def _consumed(waiting: deque[bytes]) -> Iterator[bytes]:
    while waiting:
        yield waiting.popleft()


def _quoted(lines: Iterator[bytes], taken: list[bytes], delimiter: str) -> int:
    """How many lines the record with quotes takes; `taken`: those that had to be looked at."""
    reader = csv.reader(_decoded(lines, taken), delimiter=delimiter, strict=True)
    try:
        next(reader)
    except (csv.Error, StopIteration):
        return 1
    return reader.line_num


def _decoded(lines: Iterator[bytes], taken: list[bytes]) -> Iterator[str]:
    size = 0
    for line in lines:
        taken.append(line)
        size += len(line)
        if size > LARGEST_RECORD:
            return
        yield line.decode("utf-8", "surrogateescape")


def _rows_by_themselves(lines: list[bytes], delimiter: str) -> bool:
    """Whether each line has as many delimiters as the others: then stray quotes, not a field of several lines, tie them."""
    counts = {line.count(delimiter.encode()) for line in lines}
    return len(counts) == 1 and counts != {0}


def layout(found: Iterator[Record], delimiter: str) -> tuple[Layout, Iterator[Record]]:
    """The columns, told by the first records, and all records again; the header is marked."""
    first = list(itertools.islice(found, LOOKED_AT))
    rows = [fields(r.text.decode("utf-8", "replace"), delimiter) for r in first]
    rows = [row for row in rows if any(row)]
    if not rows or not _names(rows[0], rows[1:]):
        width = max(map(len, rows[:1]), default=0)
        return Layout(tuple(map(str, range(width))), delimiter), itertools.chain(first, found)
    at = next(i for i, r in enumerate(first) if r.text.strip())
    first[at] = first[at]._replace(header=True)
    return Layout(tuple(name.strip() for name in rows[0]), delimiter), itertools.chain(first, found)


def _names(row: list[str], others: list[list[str]]) -> bool:
    """Whether a record names columns: distinct short names, none of them a value in its own column."""
    if len({name.strip() for name in row}) < len(row) or not all(NAME.fullmatch(name.strip()) for name in row):
        return False
    return not any(name == value for other in others for name, value in zip(row, other, strict=False))


def parquet(path: Path, name: str, size: int) -> Iterator[tuple[int, bytes]]:
    """How many rows, and they as an Arrow stream, in pieces of about `size` bytes. Raises DataError for a damaged file."""
    import pyarrow.parquet as pq  # takes a while, and few corpora need it

    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            total = sum(group.total_byte_size for group in groups)
            count = max(1, size * file.metadata.num_rows // max(1, total))
            for batch in file.iter_batches(batch_size=min(count, 100_000)):
                yield batch.num_rows, _stream(batch)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{name}: not a whole parquet file: {error}") from error


def _stream(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def arrow_rows(data: bytes) -> list[dict[str, Any]]:
    """The rows of an Arrow stream, as JSON would give them."""
    with pa.ipc.open_stream(data) as reader:
        return [row for batch in reader for row in plain(batch.to_struct_array())]


def plain(array: pa.Array) -> list[Any]:
    """An Arrow array as values that JSON knows; times, decimals and bytes become text."""
    kind = array.type
    if pa.types.is_struct(kind):
        return _structs(array)
    if pa.types.is_map(kind):
        return [None if row is None else dict(row) for row in array.to_pylist()]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        values = iter(plain(array.flatten()))
        lengths = (
            array.value_length().to_pylist() if hasattr(array, "value_length") else array.value_lengths().to_pylist()
        )
        return [None if n is None else list(itertools.islice(values, n)) for n in lengths]
    if pa.types.is_dictionary(kind):
        return plain(array.dictionary_decode())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return [None if value is None else value.decode("utf-8", "backslashreplace") for value in array.to_pylist()]
    if pa.types.is_temporal(kind) or pa.types.is_decimal(kind):
        return array.cast(pa.string()).to_pylist()
    return array.to_pylist()


def _structs(array: pa.Array) -> list[dict[str, Any] | None]:
    names = [array.type.field(i).name for i in range(array.type.num_fields)]
    columns = [plain(column) for column in array.flatten()]
    rows: list[Any] = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    if array.null_count:
        rows = [row if valid else None for row, valid in zip(rows, array.is_valid().to_pylist(), strict=True)]
    return rows if names else [{} for _ in range(len(array))]
