"""Corpus files cut into slices of some megabytes at the edges of rows, in bounded memory, to be read side by side.

JSON arrays are cut by their structure (`scan`), lines and plain text at line ends; whoever reads a slice parses its rows one by
one (`rows`), so a bad row costs itself only. A plain text's documents are its paragraphs: what stands between blank lines.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import orjson

from nlpft.data import stream, tables
from nlpft.data.head import BOM, Kind, wrapper
from nlpft.data.resync import settled
from nlpft.data.scan import BLANKS, Scan, marker
from nlpft.data.sources import Source
from nlpft.errors import DataError

BLOCK = 1 << 20  # bytes read at a time
SLICE = 3 << 20  # bytes of rows in a slice, about; a shard of the dataset holds one
LARGEST_ROW = 512 << 20  # bytes; what is larger is no row but a broken (or hostile) file
LARGEST_REST = 1 << 20  # bytes of an object behind the list of rows in it
BLANK_LINE = re.compile(rb"\n(?:[ \t\r]*\n)+")


class Slice(NamedTuple):
    """Neighbouring rows of one file."""

    name: str  # the file, as the user wrote it
    number: int  # of the first row: its place in an array, CSV or parquet table, else its line
    offset: int  # of `data` in the file, in bytes (of the unpacked file, where it is compressed)
    data: bytes | tuple[str, int]  # or the file to read it from, and how many bytes
    kind: Kind = "lines"
    edges: np.ndarray | None = (
        None  # int64 [rows, 3], as `rows` takes them; None: lines, paragraphs, or an Arrow stream
    )
    table: tables.Layout | None = None  # of CSV and TSV

    @property
    def size(self) -> int:
        """Bytes."""
        return self.data[1] if isinstance(self.data, tuple) else len(self.data)


@dataclass
class CutOff:
    """Filled in where a file ends in the middle of a row: its complete rows have been cut all the same."""

    places: dict[str, str] = field(default_factory=dict)  # file -> what is wrong, and at which byte


def cut(source: Source, cut_off: CutOff) -> Iterator[Slice]:
    """The slices of a file, in order. Raises DataError where it cannot be read or a row has no end within reason."""
    if source.kind == "parquet":
        yield from _parquet(source)
        return
    path = "" if source.compression else str(source.path)
    blocks = _blocks(source, cut_off)
    first = b""
    while len(first) < len(BOM) and (more := next(blocks, b"")):
        first += more
    start = len(BOM) if first.startswith(BOM) else 0
    blocks = itertools.chain([first[start:]], blocks)
    if source.kind == "array":
        yield from _array(source, blocks, start, path, cut_off)
    elif source.kind in ("csv", "tsv"):
        yield from _table(source, blocks, start, path)
    else:
        yield from _lines(source, blocks, start, path, cut_off)


def _blocks(source: Source, cut_off: CutOff) -> Iterator[bytes]:
    """The file's bytes, as far as they can be unpacked."""
    done = 0
    try:
        for block in stream.blocks(source.path, source.compression, BLOCK):
            done += len(block)
            yield block
    except stream.Damaged as damage:
        cut_off.places[source.name] = f"{damage}: nothing comes behind byte {done:,} of the unpacked file"


def _lines(source: Source, blocks: Iterator[bytes], offset: int, path: str, cut_off: CutOff) -> Iterator[Slice]:
    """Slices of lines, or of paragraphs."""
    data, number, name = bytearray(), 1, source.name
    for block in itertools.chain(blocks, [b""]):
        data += block
        if block and len(data) < SLICE:
            continue
        end = len(data) if not block and name not in cut_off.places else _line_end(data, source.kind)
        if end:
            piece = bytes(data[:end])
            yield Slice(name, number, offset, (path, end) if path else piece, source.kind)
            number, offset = number + piece.count(b"\n"), offset + end
            del data[:end]
        _check_size(name, offset, len(data))


def _line_end(data: bytearray, kind: Kind) -> int:
    """The last place at which a row may begin."""
    if kind == "lines":
        return data.rfind(b"\n") + 1
    ends = [found.end() for found in BLANK_LINE.finditer(data) if found.end() < len(data)]
    return ends[-1] if ends else 0  # blank lines at the end may go on in the next block


def _check_size(name: str, offset: int, size: int) -> None:
    if size > LARGEST_ROW:
        raise DataError(
            f"{name}: the row at byte {offset:,} is larger than {LARGEST_ROW >> 20} MiB; is its end missing?"
        )


def _table(source: Source, blocks: Iterator[bytes], offset: int, path: str) -> Iterator[Slice]:
    records = tables.records(_line_by_line(blocks), tables.DELIMITERS[source.kind])
    layout, records = tables.layout(records, tables.DELIMITERS[source.kind])
    data, edges, line = bytearray(), [], 1
    for record in itertools.chain(records, [None]):
        if record is not None:
            if not record.header and record.text.strip():
                edges.append((len(data), len(data) + len(record.text), line))
            data += record.text
            line += record.lines
        if edges and (record is None or len(data) >= SLICE):
            whole = (path, len(data)) if path else bytes(data)
            yield Slice(source.name, edges[0][2], offset, whole, source.kind, np.array(edges, np.int64), layout)
            offset, data, edges = offset + len(data), bytearray(), []


def _line_by_line(blocks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        yield from (line + b"\n" for line in lines)
    if rest:
        yield rest


def _parquet(source: Source) -> Iterator[Slice]:
    number = 1
    for rows, data in tables.parquet(source.path, source.name, SLICE):
        yield Slice(source.name, number, 0, data, "parquet")
        number += rows


def _array(source: Source, blocks: Iterator[bytes], offset: int, path: str, cut_off: CutOff) -> Iterator[Slice]:
    """Slices of a JSON array, or of JSON objects one behind the other."""
    data, offset = _from_bracket(source, blocks, offset)
    name, number, nested, base = source.name, 1, False, 0
    scan = Scan(marker(bytes(data[: 64 << 10])), once=bool(source.key))
    block = b" "
    while True:
        last = not block or (scan.once and scan.end >= 0)
        scan.feed(data, last)
        stuck = len(data) - scan.complete > SLICE
        if last or stuck or scan.complete >= SLICE:
            edges, scan, end, base, nested = settled(data, scan, base, number - 1, nested, last=last, stuck=stuck)
            end = len(data) if last else end
            if len(edges):
                yield Slice(name, number, offset, (path, end) if path else bytes(data[:end]), "array", edges)
            number += len(edges)
            if last:
                if scan.depth:
                    cut_off.places.setdefault(name, _no_end(scan, number, offset))
                elif scan.once:
                    _check_rest(source, bytes(data[scan.end :]), blocks, cut_off)
                return
            offset += end
            del data[:end]
            scan.drop(end)
        _check_size(name, offset, len(data) - scan.complete)
        block = next(blocks, b"")
        data += block


def _from_bracket(source: Source, blocks: Iterator[bytes], offset: int) -> tuple[bytearray, int]:
    """The first bytes from the bracket on with which the rows begin, and where it stands."""
    data = bytearray()
    for block in blocks:
        data += block
        if data.strip(BLANKS):
            break
    start = len(data) - len(data.lstrip(BLANKS))
    if source.key:
        found = wrapper(bytes(data[start:]))
        assert found, "the key was found in the file's first bytes"
        start += found[1]
    del data[:start]
    return data, offset + start


def _no_end(scan: Scan, number: int, offset: int) -> str:
    if scan.open < 0:
        return f"the array has no end: it breaks off behind row {number - 1:,}, at byte {offset + scan.complete:,}"
    return f"row {number:,}, which begins at byte {offset + scan.open:,}, has no end"


def _check_rest(source: Source, rest: bytes, blocks: Iterator[bytes], cut_off: CutOff) -> None:
    """Raise DataError where an object holds more rows than those under its key."""
    rest += b"".join(itertools.islice(blocks, max(1, LARGEST_REST // BLOCK)))
    try:
        others = orjson.loads(b'{"": 0' + rest)
    except orjson.JSONDecodeError:
        if b"{" not in rest:
            cut_off.places.setdefault(source.name, f"the object around the rows of {source.key!r} has no end")
            return
        others = {"more": [{}]}
    if any(isinstance(value, list) and value and isinstance(value[0], dict) for value in others.values()):
        raise DataError(
            f"{source.name}: there are more rows behind those of {source.key!r}; save each list as a file of its own"
        )
