"""Corpus files -> records that know their place. JSON arrays and JSONL, told apart by content, not by file ending."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from nlpft.errors import DataError, RowRejected
from nlpft.types import Record


class Bad(NamedTuple):
    """A row that could not even be parsed."""

    source: str
    error: RowRejected
    text: str  # the line as it stands, for rejected.jsonl


def read(path: Path) -> Iterator[Record | Bad]:
    """The rows of a JSON array (counted from 1) or the lines of a JSONL file (blank ones left out).

    Raises DataError where there is no such file, it cannot be read, or nothing in it is JSON.
    """
    raw = file_bytes(path).removeprefix(b"\xef\xbb\xbf")
    start = raw.lstrip()[:1]
    if not start:
        raise DataError(f"{path}: the file is empty")
    return _array(path, raw) if start == b"[" else _lines(path, raw)


def file_bytes(path: Path) -> bytes:
    """All of a file. Raises DataError where it is missing or cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _array(path: Path, raw: bytes) -> Iterator[Record]:
    rows = _parse(path, raw)
    return (Record(row, f"{path}:{number}") for number, row in enumerate(rows, 1))


def _parse(path: Path, raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        try:
            return json.loads(raw)  # takes NaN, huge numbers and half surrogate pairs: these cost a row, not the file
        except ValueError:
            raise DataError(
                f"{path}: not a whole JSON array: {error.msg} (line {error.lineno}, column {error.colno}); "
                "was the download cut off? One object on each line (JSONL) is read as well"
            ) from error


def _lines(path: Path, raw: bytes) -> Iterator[Record | Bad]:
    lines = [(number, line) for number, line in enumerate(raw.split(b"\n"), 1) if line.strip()]
    if not any(map(_is_json, (line for _, line in lines))):
        # One object over several lines: a single record, or a file that wraps its rows in a key.
        if raw.lstrip()[:1] == b"{" and len(lines) > 1:
            return iter([Record(_parse(path, raw), f"{path}:1")])
        raise DataError(
            f"{path}:{lines[0][0]}: not JSON; nlpft reads a JSON array or one JSON object on each line (JSONL)"
        )
    return (_line(f"{path}:{number}", line) for number, line in lines)


def _line(source: str, line: bytes) -> Record | Bad:
    try:
        return Record(orjson.loads(line), source)
    except orjson.JSONDecodeError as error:
        return Bad(source, RowRejected("line is not JSON", error.msg), line.decode("utf-8", "backslashreplace"))


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
