"""Where the rows of a JSON array stand: quotes, escapes and brackets by array arithmetic, exact for any JSON."""

import itertools
import re
from typing import NamedTuple

import numpy as np
import orjson

CHUNK = 256 << 10  # bytes looked at together: what numpy makes of them stays in the processor's cache
FIRST_CHUNK = 4 << 10  # behind a place where the scan begins anew
QUOTE, BACKSLASH, BRACKET = b'"'[0], b"\\"[0], b"["[0]
BLANKS = b" \t\r\n"
ROW_START = re.compile(rb'[\[,]([ \t\r\n]*)(\{[ \t\r\n]*"[^"\\]{1,64}"[ \t\r\n]*:)')


class Marker(NamedTuple):
    """How a row begins."""

    text: bytes  # blanks, bracket, blanks, first key, colon
    bracket: int  # its place in `text`


def marker(head: bytes) -> Marker | None:
    """How the rows of an array begin: as its first one, or if that is broken, as the others; `head`: the array's first bytes."""
    found = ROW_START.match(head)
    if found:
        return _marker(found)
    others = [_marker(found) for found in itertools.islice(ROW_START.finditer(head), 1000)]
    return max(dict.fromkeys(others), key=lambda other: _parsed(head, other.text), default=None)


def _marker(found: re.Match[bytes]) -> Marker:
    blanks = found[1][-64:]
    return Marker(blanks + found[2], len(blanks))


def _parsed(head: bytes, start: bytes) -> int:
    """How many bytes are JSON objects, if rows begin like that."""
    rows = [(start + row).rstrip(BLANKS + b",") for row in head.split(start)[1:]]
    return sum(len(row) for row in rows if is_json(row))


def is_json(text: bytes) -> bool:
    """Whether `text` is a JSON value."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


class Scan:
    """The rows in bytes that are fed to it piece by piece, always as one growing buffer.

    Until the first bracket that opens an array, rows are objects one behind the other; within an array they are its elements.
    """

    def __init__(self, start: Marker | None = None, at: int = 0, base: int = 0, once: bool = False) -> None:
        self.marker = start
        self.base = self.base_before = base  # depth between rows (1 within an array), now and behind the last row
        self.depth = base  # of brackets, at `seen`
        self.seen = at  # bytes looked at
        self.complete = at  # bytes up to the end of the last row
        self.open = -1  # where the row at hand begins
        self.broken = False  # brackets that cannot be right have been seen
        self.once = once  # whether the first array is all that counts
        self.end = -1  # where the array ended, the last one if there are several
        self._in_string = self._escaped = False
        self._quotes = 0  # unescaped ones before `seen`
        self._open_quotes = 0  # and before the row at hand
        self._step = FIRST_CHUNK
        self._edges: list[np.ndarray] = []
        self._hits: list[np.ndarray] = []

    def edges(self) -> np.ndarray:
        """int64 [rows, 3]: where each row begins and ends, and the unescaped quotes in it."""
        return np.concatenate([np.zeros((0, 3), np.int64), *self._edges])

    def hits(self) -> np.ndarray:
        """int64: brackets that look as if a row began there, within strings too."""
        return np.concatenate([np.zeros(0, np.int64), *self._hits])

    def drop(self, count: int) -> None:
        """The first `count` bytes and their rows are gone; the rest moves up."""
        hits, edges = self.hits(), self.edges()
        self._hits = [hits[hits >= count] - count]
        self._edges = [edges[edges[:, 0] >= count] - [count, count, 0]]
        self.seen, self.complete = self.seen - count, self.complete - count
        self.end = self.end - count if self.end >= 0 else -1
        self.open = self.open - count if self.open >= 0 else -1

    def feed(self, data: bytearray, last: bool = False) -> None:
        """Look at what is new in `data`, up to its end only if it is the last of the file."""
        while self.step(data, last):
            pass

    def step(self, data: bytearray, last: bool) -> bool:
        """Look at the next few bytes. Whether there were any."""
        stop = len(data) if last or not self.marker else len(data) - len(self.marker.text)
        end = min(stop, self.seen + self._step)
        if end <= self.seen or (self.once and self.end >= 0):
            return False
        self._step = min(2 * self._step, CHUNK)
        self._look(data, end)
        return True

    def _look(self, data: bytearray, end: int) -> None:
        block = np.frombuffer(data, np.uint8, end - self.seen, self.seen)
        quotes = unescaped_quotes(block, self._escaped)
        brackets = brackets_in(block)
        places = brackets + self.seen
        before = np.searchsorted(quotes, brackets)
        outside = (before + self._in_string) % 2 == 0
        brackets, before = brackets[outside], before[outside] + self._quotes
        kinds = block[brackets]
        steps = 3 - (kinds & 6).astype(np.int64)  # 1 opens, -1 closes
        depths = self.depth + np.cumsum(steps)
        outer = depths - (steps > 0)
        at = self._border(outer, steps, kinds)
        cross = int(brackets[at]) + self.seen if at < len(brackets) else end
        self._find_markers(data, places[places < cross])
        self._rows(brackets[:at] + self.seen, before[:at], steps[:at], outer[:at])
        if at < len(brackets):
            self._cross(cross, int(before[at]), int(kinds[at]))
            return
        self._in_string ^= bool(len(quotes) % 2)
        self._escaped = _ends_in_escape(data, self.seen, end, self._escaped)
        self._quotes += len(quotes)
        self.depth = int(depths[-1]) if len(depths) else self.depth
        self.seen = end

    def _border(self, outer: np.ndarray, steps: np.ndarray, kinds: np.ndarray) -> int:
        """Index of the first bracket that begins or ends the array around the rows."""
        border = outer < self.base
        if not self.base:
            border |= (outer == 0) & (steps > 0) & (kinds == BRACKET)
        return int(border.argmax()) if border.any() else len(border)

    def _rows(self, places: np.ndarray, quotes: np.ndarray, steps: np.ndarray, outer: np.ndarray) -> None:
        shallow = outer == self.base
        places, quotes, opens = places[shallow], quotes[shallow], steps[shallow] > 0
        begins = np.stack([places[opens], quotes[opens]], 1)
        ends = np.stack([places[~opens] + 1, quotes[~opens]], 1)
        if self.open >= 0:
            begins = np.concatenate([[[self.open, self._open_quotes]], begins])
        if len(ends):
            whole = begins[: len(ends)]
            self._edges.append(np.column_stack([whole[:, 0], ends[:, 0], ends[:, 1] - whole[:, 1]]))
            self.complete, self.base_before = int(ends[-1, 0]), self.base
        self.open, self._open_quotes = begins[-1].tolist() if len(begins) > len(ends) else (-1, 0)

    def _cross(self, place: int, quotes: int, kind: int) -> None:
        """Go into an array, or out of it."""
        if kind == BRACKET and not self.base:
            self.base = 1
        else:
            self.broken |= not self.base or kind == b"}"[0]
            self.base, self.end = 0, place + 1
        self.depth, self.seen, self._quotes = self.base, place + 1, quotes
        self._in_string = self._escaped = False
        self._step = FIRST_CHUNK

    def _find_markers(self, data: bytearray, places: np.ndarray) -> None:
        if not self.marker:
            return
        text, bracket = self.marker
        everything = np.frombuffer(data, np.uint8)
        places = places[(places >= bracket) & (places + len(text) - bracket <= len(data))] - bracket
        for i in range(len(text) - 1, -1, -1):  # from behind: a key's end tells most
            places = places[everything[places + i] == text[i]]
        if len(places):
            self._hits.append(places + bracket)


def brackets_in(block: np.ndarray) -> np.ndarray:
    """Places of [ ] { and }, within strings too."""
    return np.flatnonzero(((block | 0x20) - np.uint8(0x7B)) & np.uint8(0xFD) == 0)


def unescaped_quotes(block: np.ndarray, escaped: bool = False) -> np.ndarray:
    """Places of the quotes that begin or end a string; `escaped`: a backslash before `block` escapes its first byte."""
    quotes = np.flatnonzero(block == QUOTE)
    if escaped:
        block = block.copy()
        block[0] = 0
        quotes = quotes[quotes > 0]
    after = quotes[quotes > 0]
    suspects = after[block[after - 1] == BACKSLASH]
    if not len(suspects):
        return quotes
    if (block[np.maximum(suspects - 2, 0)] == BACKSLASH).any():
        suspects = _odd_runs(block, suspects)
    keep = np.ones(len(quotes), bool)
    keep[np.searchsorted(quotes, suspects)] = False
    return quotes[keep]


def _odd_runs(block: np.ndarray, suspects: np.ndarray) -> np.ndarray:
    """Those of the quotes behind backslashes that stand behind an odd number of them."""
    slashes = np.flatnonzero(block == BACKSLASH)
    begins = np.concatenate(([True], np.diff(slashes) > 1))
    first = np.maximum.accumulate(np.where(begins, np.arange(len(slashes)), 0))  # of the run that each belongs to
    at = np.searchsorted(slashes, suspects - 1)
    return suspects[(at - first[at]) % 2 == 0]


def _ends_in_escape(data: bytearray, start: int, end: int, escaped: bool) -> bool:
    """Whether the byte at `end` is escaped; `escaped`: the one at `start` is."""
    if data[end - 1] != BACKSLASH:
        return False
    chunk = data[start:end]
    run = len(chunk) - len(chunk.rstrip(b"\\"))
    return (run - (escaped and run == len(chunk))) % 2 == 1
