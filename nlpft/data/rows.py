"""Slices -> records that know their place. Each row is parsed by itself: a bad one is kept apart and costs no other.

Duplicate keys in an object, of which parsers keep the last without a word, are found by counting: the strings in the text
against those in what was read.
"""

import json
import re
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from nlpft.data import tables
from nlpft.data.scan import unescaped_quotes
from nlpft.data.slices import BLANK_LINE, Slice
from nlpft.data.stream import cannot_read
from nlpft.errors import RowRejected
from nlpft.types import Record

BLANK_LINES = re.compile(rb"(?:[ \t\r]*\n)*")
DEEPEST = 100  # levels of lists and objects in a row
NOT_JSON, NOT_UTF8 = "row is not JSON", "row is not UTF-8"
TOO_DEEP, DUPLICATE_KEY = "row is nested too deeply", "a key stands twice in an object"
OTHER_WIDTH = "row has another number of fields than the table"


class Bad(NamedTuple):
    """A row that could not even be parsed."""

    source: str  # as in Record
    error: RowRejected
    text: str  # the row as it stands, for rejected.jsonl
    offset: int = 0  # as in Record


class Rows(NamedTuple):
    """All rows of a slice."""

    records: list[Record | Bad]
    suspect: set[int]  # records that only the lenient parser took: NaN, numbers beyond 64 bits, lone surrogates


def rows(piece: Slice) -> Rows:
    """The rows of a slice, in order. Raises DataError where its file is no longer there."""
    data = _bytes(piece)
    if piece.kind == "parquet":
        return Rows(
            [Record(row, f"{piece.name}:{i}") for i, row in enumerate(tables.arrow_rows(data), piece.number)], set()
        )
    if piece.kind == "text":
        return Rows(_paragraphs(piece, data), set())
    edges = _line_edges(data) if piece.edges is None else piece.edges
    if piece.table is not None:
        return Rows([_fields(piece, data, *edge) for edge in edges.tolist()], set())
    return _json_rows(piece, data, edges)


def _bytes(piece: Slice) -> bytes:
    if not isinstance(piece.data, tuple):
        return piece.data
    path, size = piece.data
    try:
        with open(path, "rb") as file:
            file.seek(piece.offset)
            return file.read(size)
    except OSError as error:
        raise cannot_read(Path(path), error) from error


def _json_rows(piece: Slice, data: bytes, edges: np.ndarray) -> Rows:
    records: list[Record | Bad] = []
    suspect: set[int] = set()
    name, number, offset, loads = piece.name, piece.number, piece.offset, orjson.loads
    for i, (start, end, quotes) in enumerate(edges.tolist(), number):
        raw = data[start:end]
        try:
            try:
                value = loads(raw)
            except orjson.JSONDecodeError:
                if piece.edges is None and not raw.strip():
                    continue
                value = _leniently(raw)
                suspect.add(len(records))
            if 2 * strings(value) != quotes >= 0:
                _check_keys(raw)
        except RowRejected as why:
            suspect.discard(len(records))
            records.append(Bad(f"{name}:{i}", why, raw.decode("utf-8", "backslashreplace"), offset + start))
        else:
            records.append(Record(value, f"{name}:{i}", offset + start))
    return Rows(records, suspect)


def _line_edges(data: bytes) -> np.ndarray:
    """int64 [lines, 3]: where each line begins and ends, and the unescaped quotes in it."""
    block = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(block == ord("\n"))
    if not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    quotes = np.searchsorted(unescaped_quotes(block), ends)
    return np.column_stack([np.concatenate(([0], ends[:-1] + 1)), ends, np.diff(quotes, prepend=0)])


def _leniently(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        byte = raw[error.start]
        raise RowRejected(NOT_UTF8, f"byte 0x{byte:02x} at {error.start}") from None
    except RecursionError:
        raise RowRejected(TOO_DEEP, f"more than {DEEPEST} levels") from None
    except ValueError as error:
        raise RowRejected(NOT_JSON, str(error)) from None


def strings(value: Any, levels: int = DEEPEST) -> int:
    """How many strings a value holds, keys included. Raises RowRejected where it is nested more than `levels` deep."""
    if isinstance(value, str):
        return 1
    if isinstance(value, dict):
        return len(value) + _strings_in(value.values(), levels)
    return _strings_in(value, levels) if isinstance(value, list) else 0


def _strings_in(values: Any, levels: int) -> int:
    if not levels:
        raise RowRejected(TOO_DEEP, f"more than {DEEPEST} levels")
    kinds = list(map(type, values))
    if dict not in kinds and list not in kinds:
        return kinds.count(str)
    if kinds.count(dict) == len(kinds):
        inner = list(map(type, chain.from_iterable(map(dict.values, values))))
        if dict not in inner and list not in inner:
            return sum(map(len, values)) + inner.count(str)
    return sum(strings(value, levels - 1) for value in values)


def _check_keys(raw: bytes) -> None:
    """Raise RowRejected where an object in `raw` has a key twice."""

    def check(pairs: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise RowRejected(DUPLICATE_KEY, repr(twice))

    json.loads(raw.decode("utf-8"), object_pairs_hook=check)


def _fields(piece: Slice, data: bytes, start: int, end: int, line: int) -> Record | Bad:
    source, offset, raw = f"{piece.name}:{line}", piece.offset + start, data[start:end]
    assert piece.table is not None
    columns, delimiter = piece.table
    try:
        values = tables.fields(raw.decode("utf-8"), delimiter)
    except UnicodeDecodeError as error:
        why = RowRejected(NOT_UTF8, f"byte 0x{raw[error.start]:02x} at {error.start}")
        return Bad(source, why, raw.decode("utf-8", "backslashreplace"), offset)
    if len(values) != len(columns):
        return Bad(source, RowRejected(OTHER_WIDTH, f"{len(values)}, not {len(columns)}"), raw.decode(), offset)
    return Record(dict(zip(columns, values, strict=True)), source, offset)


def _paragraphs(piece: Slice, data: bytes) -> list[Record | Bad]:
    """The documents of a plain text, each with the line that it begins in."""
    found: list[Record | Bad] = []
    start, line = 0, piece.number
    for end, after in [*(m.span() for m in BLANK_LINE.finditer(data)), (len(data), len(data))]:
        raw = data[start:end]
        lead = len(BLANK_LINES.match(raw)[0])  # type: ignore[index]
        body = raw[lead:].rstrip(b"\r\n")
        if body.strip():
            at = start + lead
            found.append(_document(body, f"{piece.name}:{line + data.count(10, start, at)}", piece.offset + at))
        line, start = line + data.count(b"\n", start, after), after
    return found


def _document(body: bytes, source: str, offset: int) -> Record | Bad:
    try:
        return Record({"text": body.decode("utf-8")}, source, offset)
    except UnicodeDecodeError as error:
        why = RowRejected(NOT_UTF8, f"byte 0x{body[error.start]:02x} at {error.start}")
        return Bad(source, why, body.decode("utf-8", "backslashreplace"), offset)
