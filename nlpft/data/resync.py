"""Rows of a JSON array in which something is broken: what is wrong costs itself only, and the rows behind it are found again.

Text that is not whole JSON derails a scan of its structure: a lost quote turns texts into structure, a lost bracket swallows the
rows behind it. `settled` sees signs of that, and then a parser walks over the bytes: at an error it goes on where a row plausibly
begins, at a bracket with the blanks and the first key that the first row has. Valid JSON is never cut that way.
"""

import json
import re
from typing import NamedTuple

import numpy as np

from nlpft.data.scan import BLANKS, Scan, unescaped_quotes

BETWEEN = BLANKS + b",[]"  # what may stand between two rows
FEW = 100  # rows: what they have in common, others may be expected to have
LONG_LOST = 64 << 20  # bytes; a row of that length in which another seems to begin has lost its end
CONSTANTS = ("true", "false", "null", "NaN", "Infinity", "-Infinity")
NEXT_OBJECT = re.compile(r"\}[ \t\r\n]*,[ \t\r\n]*(?=\{)")
SEPARATORS = re.compile(r"[ \t\r\n,]*")
PARSER = json.JSONDecoder(strict=False)
Edge = tuple[int, int, int]  # as a row of `Scan.edges`


class Settled(NamedTuple):
    """Rows that may be read, and the scan that goes on behind them."""

    edges: np.ndarray  # int64 [rows, 3], as in `Scan.edges`; -1 quotes: not counted
    scan: Scan
    end: int  # of what has been settled, in bytes
    base: int  # depth there
    nested: bool  # whether rows hold beginnings of rows inside, which therefore tell nothing


def settled(data: bytearray, scan: Scan, base: int, known: int, nested: bool, *, last: bool, stuck: bool) -> Settled:
    """The rows of `data`, of which `scan` has seen all; what has derailed it costs itself only.

    `base`: the depth that the scan began with; `known`: rows before these; `nested`: as in `Settled`; `last`: the file ends
    here; `stuck`: a row has become so long that it may have lost its end.
    """
    edges, hits = scan.edges(), scan.hits()
    inside = np.setdiff1d(hits[hits < scan.complete], edges[:, 0], assume_unique=True)
    if scan.broken or _unlike_ends(data, edges) or _odd_gaps(data, edges) or (len(inside) and not nested):
        start, kept = 0, edges[:0]
    elif (last and not _ends_well(data, scan)) or (stuck and scan.open >= 0 and bool((hits > scan.open).any())):
        start, base, kept = scan.complete, scan.base_before, edges
    else:
        return Settled(edges, scan, scan.complete, scan.base_before, nested)
    walk = Walk(data, scan, start, base, known + len(kept), nested, last)
    walk.run()
    rows = np.concatenate([kept, np.array(walk.edges, np.int64).reshape(-1, 3)])
    return Settled(rows, walk.scan(), walk.at, walk.base, walk.nested)


def _ends_well(data: bytearray, scan: Scan) -> bool:
    end = scan.end if scan.once else len(data)
    return not scan.depth and not bytes(data[scan.complete : end]).strip(BETWEEN)


def _odd_gaps(data: bytearray, edges: np.ndarray) -> bool:
    """Whether there is more between two rows (and before the first) than commas and blanks."""
    if not len(edges):
        return False
    begins = np.concatenate(([0], edges[:-1, 1]))
    lengths = edges[:, 0] - begins
    usual = bytes(data[begins[-1] : edges[-1, 0]])
    odd = lengths != len(usual)
    if usual.strip(BETWEEN) or len(usual) > 64:
        odd[:] = True
    else:
        everything, like = np.frombuffer(data, np.uint8), np.flatnonzero(~odd)
        for i, byte in enumerate(usual):
            odd[like] |= everything[begins[like] + i] != byte
    gaps = zip(begins[odd].tolist(), edges[odd, 0].tolist(), strict=True)
    return any(data[begin:end].strip(BETWEEN) for begin, end in gaps)


def _unlike_ends(data: bytearray, edges: np.ndarray) -> bool:
    """Whether a row that begins with one kind of bracket ends in the other."""
    everything = np.frombuffer(data, np.uint8)
    return bool((everything[edges[:, 0]] ^ everything[edges[:, 1] - 1] != 6).any())


class Walk:
    """A parser on its way over the rows of a buffer, from `at` on."""

    def __init__(self, data: bytearray, scan: Scan, at: int, base: int, known: int, nested: bool, last: bool) -> None:
        self.edges: list[Edge] = []  # bad pieces among them
        self.nested = nested
        self._data, self._text = data, data.decode("latin-1")  # one character a byte
        self._before, self._hits = scan, scan.hits()
        self.at, self.base, self._known, self._last = at, base, known, last
        self._bad = self._ended = False

    def run(self) -> None:
        """Go on to the end, or to a row that is not whole yet."""
        while self._skip_separators():
            try:
                _, end = PARSER.raw_decode(self._text, self.at)
            except (json.JSONDecodeError, RecursionError) as error:
                if not self._recovered(error):
                    return
                continue
            if end == len(self._text) and not self._last and self._text[self.at] not in "{[":
                return  # a number may go on
            self.nested = self.nested or self._first_hit(self.at + 1) < end
            self.edges.append((self.at, end, len(unescaped_quotes(np.frombuffer(self._data[self.at : end], np.uint8)))))
            self.at, self._bad = end, False

    def scan(self) -> Scan:
        """A scan that goes on from here."""
        scan = Scan(self._before.marker, self.at, self.base, self._before.once)
        scan.end = self.at if self._ended else -1
        scan.feed(self._data, self._last)
        return scan

    def _skip_separators(self) -> bool:
        """Go to the next row, into an array or out of it. Whether there is one."""
        while True:
            self.at = SEPARATORS.match(self._text, self.at).end()  # type: ignore[union-attr]
            bracket = self._text[self.at : self.at + 1]
            if (bracket, self.base) not in (("]", 1), ("[", 0)):
                return bool(bracket) and not self._ended
            self.base, self.at = 1 - self.base, self.at + 1
            self._ended = self._before.once and not self.base
            if self._ended:
                return False

    def _recovered(self, error: json.JSONDecodeError | RecursionError) -> bool:
        """Go on behind a bad row. False where more bytes may mend it, or there are none."""
        if isinstance(error, RecursionError):  # nested deeply, but its brackets may be right
            following = self._balanced_end(self.at)
            following = following if following <= len(self._text) else self._next_start(self.at)
            if following > len(self._text) and not self._last:
                return False
        elif _cut(error, self._text):
            following = self._first_hit(self.at + 1)
            if not self._given_up() or following >= len(self._text):
                return False
        else:
            following = min(self._next_start(error.pos), self._balanced_end(error.pos))
            if following >= len(self._text) and not self._last:
                return False
        self._lose(min(following, len(self._text)))
        return True

    def _given_up(self) -> bool:
        """Whether a row that has no end yet, and in which others seem to begin, will have none."""
        rows = self._known + len(self.edges)
        long = rows >= FEW and len(self._text) - self.at > LONG_LOST
        marker = self._before.marker
        known = rows > 0 or (marker and b"\n" in marker.text[: marker.bracket])  # indented deeper within a row
        return not self.nested and bool(known) and (self._last or long)

    def _first_hit(self, start: int) -> int:
        """Where the next row seems to begin, from `start` on."""
        at = int(np.searchsorted(self._hits, start))
        return int(self._hits[at]) if at < len(self._hits) else len(self._text) + 1

    def _next_start(self, error: int) -> int:
        """The row's beginning that the parser has stumbled over, or else the first one behind that."""
        marker = self._before.marker
        if not marker:
            found = NEXT_OBJECT.search(self._text, error)
            return found.end() if found else len(self._text) + 1
        return self._first_hit(max(self.at + 1, error - len(marker.text)))

    def _balanced_end(self, error: int) -> int:
        """Where the brackets of the bad row are closed, if a comma or the array's end stands there."""
        if self._text[self.at] not in "{[":
            return len(self._text) + 1
        scan = Scan(None, self.at, 1)
        while scan.complete <= self.at and not scan.broken and scan.step(self._data, self._last):
            pass
        edges = scan.edges()
        end = int(edges[0, 1]) if len(edges) and edges[0, 0] == self.at else 0
        return end if end > error and self._text[end:].lstrip()[:1] in (",", "]", "") else len(self._text) + 1

    def _lose(self, end: int) -> None:
        """Count what stands before `end` as a bad row, or as the rest of one right before."""
        begin = self.at
        if self._bad and self._before.marker and self._first_hit(begin) != begin:
            begin = self.edges.pop()[0]
        inner = bytes(self._data[begin:end]).strip(BLANKS + b",")
        self.edges.append((begin, begin + len(inner), -1))
        self.at, self._bad = end, True


def _cut(error: json.JSONDecodeError, text: str) -> bool:
    """Whether the text is wrong only in that it ends too early."""
    rest = text[error.pos :].strip()
    if error.msg.startswith("Invalid \\u"):
        return len(rest) <= 6
    return error.msg.startswith("Unterminated string") or any(value.startswith(rest) for value in CONSTANTS)
