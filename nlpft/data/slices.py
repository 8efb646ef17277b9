"""Corpus files cut into slices of some megabytes at the edges of rows, in bounded memory, so that slices can be read side by side.

JSON arrays are cut by their structure: quotes, escapes and brackets are found by array arithmetic over blocks of bytes, which is
exact for any JSON and needs no parser. Whoever reads a slice parses its rows one by one, so a bad row costs itself only.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import orjson

from nlpft.errors import DataError

BLOCK = 4 << 20  # bytes read at a time
SLICE = 8 << 20  # bytes of rows in a slice, about; a shard of the dataset holds one
LARGEST_ROW = 512 << 20  # bytes; what is larger is no row but a broken (or hostile) file
QUOTE, BACKSLASH = b'"'[0], b"\\"[0]
BOM = b"\xef\xbb\xbf"


class Slice(NamedTuple):
    """Neighbouring rows of one file."""

    name: str  # the file, as the user wrote it
    number: int  # of the first row: its place in the array, or its line
    offset: int  # of `data` in the file, in bytes (of the unpacked file, where it is compressed)
    data: bytes | tuple[str, int]  # or the file to read it from, and how many bytes
    edges: np.ndarray | None = None  # int64 [rows, 2], where each row begins and ends in `data`; None: rows are lines
    rows: tuple[Any, ...] | None = None  # instead of bytes: rows that something else has parsed

    @property
    def size(self) -> int:
        """Bytes, for those that are still to be parsed."""
        return 0 if self.rows is not None else self.data[1] if isinstance(self.data, tuple) else len(self.data)


@dataclass
class CutOff:
    """Filled in where a file ends in the middle of a row."""

    places: dict[str, str] = field(default_factory=dict)  # file -> what and where


def cut_json(name: str, file: BinaryIO, path: Path | None, cut_off: CutOff) -> Iterator[Slice]:
    """Slices of a JSON array, of JSON objects one behind the other, or of lines (JSONL), told apart by content.

    `path`: a plain file that readers may open by themselves. Raises DataError where the file holds no JSON at all.
    """
    head = file.read(BLOCK)
    start = len(BOM) if head.startswith(BOM) else 0
    while head[start:].isspace() and len(head) < LARGEST_ROW and (more := file.read(BLOCK)):
        head += more
    text = head[start:].lstrip()
    start = len(head) - len(text)
    if not text:
        raise DataError(f"{name}: the file is empty")
    blocks = itertools.chain([text], iter(lambda: file.read(BLOCK), b""))
    if text[:1] == b"[":
        yield from _structured(name, blocks, start, path, cut_off)
    elif _has_json_line(text):
        yield from _lines(name, blocks, start, head[:start].count(b"\n") + 1, path)
    elif text[:1] == b"{":
        yield from _structured(name, blocks, start, path, cut_off)
    else:
        raise DataError(f"{name}:{head[:start].count(10) + 1}: {_what_else(text)}")


def _what_else(text: bytes) -> str:
    if text.startswith(b"version https://git-lfs"):
        return "a git LFS pointer, not the file itself; fetch it by `git lfs pull`"
    if text[:1] == b"\x80":
        return "a pickle, which nlpft never opens: it can run code; save the data as JSON or parquet"
    return "not JSON; nlpft reads a JSON array, or one JSON object on each line (JSONL); for plain text take --format text"


def _has_json_line(text: bytes) -> bool:
    """Whether one of the first lines is a JSON value by itself."""
    lines = [line for line in text[:1_000_000].split(b"\n")[:200] if line.strip()]
    if len(text) > 1_000_000 and len(lines) == 1:
        return True  # one very long line: whoever reads it will say what is wrong with it
    return any(map(is_json, lines))


def is_json(text: bytes) -> bool:
    """Whether `text` is a JSON value."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _lines(name: str, blocks: Iterator[bytes], offset: int, number: int, path: Path | None) -> Iterator[Slice]:
    waiting: list[bytes] = []
    size = 0
    for block in itertools.chain(blocks, [b""]):
        at = block.rfind(b"\n") + 1 if block else 0
        waiting.append(block[:at] if block else b"")
        size += len(waiting[-1])
        if (size >= SLICE and at) or not block:
            yield Slice(name, number, offset, (str(path), size) if path else b"".join(waiting))
            number, offset = number + sum(part.count(b"\n") for part in waiting), offset + size
            waiting, size = [], 0
        waiting.append(block[at:])
        size += len(waiting[-1])
        _check_size(name, offset, size)


def _check_size(name: str, offset: int, size: int) -> None:
    if size > LARGEST_ROW:
        raise DataError(f"{name}: the row at byte {offset} is larger than {LARGEST_ROW >> 20} MiB; is it a corpus of text?")


def _structured(
    name: str, blocks: Iterator[bytes], offset: int, path: Path | None, cut_off: CutOff
) -> Iterator[Slice]:
    """Slices of a JSON array, or of JSON objects one behind the other."""
    scan, data, number, edges = Scan(), b"", 1, []
    for block in blocks:
        data += block
        edges += scan.feed(data)
        if scan.complete >= SLICE:
            end = scan.complete
            yield Slice(name, number, offset, (str(path), end) if path else data[:end], np.array(edges))
            number, offset, data, edges = number + len(edges), offset + end, data[end:], []
            scan.drop(end)
        _check_size(name, offset, len(data) - scan.complete)
    edges += scan.feed(data, last=True)
    if edges:
        yield Slice(name, number, offset, (str(path), len(data)) if path else data, np.array(edges))
    if scan.depth:
        cut_off.places[name] = (
            f"not whole: the row that begins behind byte {offset + scan.complete} (number {number + len(edges)}) has no end"
        )


class Scan:
    """Where the rows of an array stand in bytes that are fed to it piece by piece."""

    def __init__(self) -> None:
        self.depth = 0  # of brackets, at `seen`
        self.seen = 0  # bytes looked at
        self.complete = 0  # bytes up to the end of the last row
        self._in_string = False
        self._start = 0  # where the row at hand begins, if there is one
        self._base = 0  # depth between rows: 1 within an array

    def drop(self, count: int) -> None:
        """The first `count` bytes are gone; the rest moves up."""
        self.seen, self.complete, self._start = self.seen - count, self.complete - count, self._start - count

    def feed(self, data: bytes, last: bool = False) -> list[tuple[int, int]]:
        """Edges of the rows that end in the part of `data` not yet seen, those of other values than objects included."""
        end = len(data)
        while not last and end > self.seen and data[end - 1] == BACKSLASH:
            end -= 1  # a run of backslashes is looked at as a whole
        block = np.frombuffer(data, np.uint8, end - self.seen, self.seen)
        quotes = _unescaped_quotes(block)
        lowered = block | 0x20
        brackets = np.flatnonzero((lowered == 0x7B) | (lowered == 0x7D))  # [ { and ] }
        outside = (np.searchsorted(quotes, brackets) + self._in_string) % 2 == 0
        brackets = brackets[outside]
        steps = np.where(lowered[brackets] == 0x7B, 1, -1)
        depths = self.depth + np.cumsum(steps)
        edges = self._rows(data, brackets + self.seen, steps, depths)
        self._in_string ^= bool(len(quotes) % 2)
        self.depth = int(depths[-1]) if len(depths) else self.depth
        self.seen = end
        if last:
            edges += self._values(data, self.complete, len(data)) if not self.depth else []
        return edges

    def _rows(self, data: bytes, places: np.ndarray, steps: np.ndarray, depths: np.ndarray) -> list[tuple[int, int]]:
        """Edges of rows, from the brackets that open or close one."""
        shallow = depths - (steps > 0) <= 1  # those that begin or end a row, or the array
        edges: list[tuple[int, int]] = []
        for place, step, depth in zip(
            places[shallow].tolist(), steps[shallow].tolist(), depths[shallow].tolist(), strict=True
        ):
            if step > 0 and depth == 1 and data[place] == ord("["):
                edges += self._values(data, self.complete, place)
                self._base, self.complete = 1, place + 1
            elif step > 0 and depth == self._base + 1:
                self._start = place
            elif step < 0 and depth == self._base and not (depth == 0 and self._base == 1):
                edges += [*self._values(data, self.complete, self._start), (self._start, place + 1)]
                self.complete = place + 1
            elif step < 0 and depth == 0:
                edges += self._values(data, self.complete, place)
                self._base, self.complete = 0, place + 1
        return edges

    def _values(self, data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Edges of what stands between two rows and is more than a comma: null, numbers and texts are rows too, bad ones."""
        between = data[start:end]
        if between.strip() in (b"", b","):
            return iter(())
        inner = between.strip().strip(b",").strip()
        at = start + between.index(inner) if inner else start
        try:
            values = orjson.loads(b"[" + inner + b"]")
        except orjson.JSONDecodeError:
            return iter([(at, at + len(inner))])
        edges = []
        for value in values:  # each stands as a whole, though perhaps with other blanks or escapes than orjson's
            edges.append((at, at + len(inner)) if len(values) == 1 else _find(data, value, at, end))
            at = edges[-1][1]
        return iter(edges)


def _find(data: bytes, value: Any, start: int, end: int) -> tuple[int, int]:
    """Where `value` stands in `data[start:end]`, up to the next comma if it is spelt otherwise than orjson does."""
    text = orjson.dumps(value)
    at = data.find(text, start, end)
    if at >= 0:
        return at, at + len(text)
    comma = data.find(b",", start + 1, end)
    return start, comma if comma > 0 else end


def _unescaped_quotes(block: np.ndarray) -> np.ndarray:
    """Places of the quotes that begin or end a string."""
    quotes = np.flatnonzero(block == QUOTE)
    after = quotes[quotes > 0]
    suspects = after[block[after - 1] == BACKSLASH]
    if not len(suspects):
        return quotes
    slashes = np.flatnonzero(block == BACKSLASH)
    begins = np.concatenate(([True], np.diff(slashes) > 1))
    first = np.maximum.accumulate(np.where(begins, np.arange(len(slashes)), 0))  # of the run that each belongs to
    at = np.searchsorted(slashes, suspects - 1)
    escaped = suspects[(at - first[at]) % 2 == 0]  # a run of odd length ends in one that escapes the quote
    return quotes[~np.isin(quotes, escaped, assume_unique=True)]
