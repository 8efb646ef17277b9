"""Texts as arrays of word hashes, and n-grams of them (array arithmetic: some 100 MB of text a second).

A word is a run of letters, marks and digits in lower case; punctuation, blanks and symbols only part words. Of scripts that
write no blanks (Chinese, Japanese, Thai, Lao, Khmer, Burmese) each character is a word. A run of more than 32 bytes counts as
several words.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

BLOCK = 1 << 20  # bytes of text that are hashed at once, so that what is in between stays in the cache
LONGEST = 32  # bytes of a word
BLANK = b" "
MIX, LAST, BASE = (np.uint64(odd) for odd in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xD6E8FEB86659FD93))
HIGH = np.uint64(32)
FIRST_BYTES = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)  # mask of a word's first 0 to 8 bytes
ASCII = bytes(
    byte if byte > 127 else ord(chr(byte).lower()) if chr(byte).isalnum() else BLANK[0] for byte in range(256)
)
OTHERS = re.compile(r"[^\x00-\x7f]+")
NO_BLANKS = (  # first and last code point of the scripts whose characters are words
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x3400, 0x9FFF),
    (0x20000, 0x3FFFF),
)


class _Plain(dict[int, str]):
    """What `str.translate` puts in place of a character outside ASCII; filled as characters are met."""

    def __missing__(self, point: int) -> str:
        char = chr(point)
        plain = char.lower() if unicodedata.category(char)[0] in "LMN" else " "
        self[point] = f" {plain} " if any(first <= point <= last for first, last in NO_BLANKS) else plain
        return self[point]


PLAIN = _Plain()


def word_hashes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The words of `texts` as hashes, uint64 [words], and where each text begins and ends in them, int64 [texts + 1]."""
    encoded = [_bytes(text) for text in texts]
    data = BLANK.join(encoded)
    begins = np.cumsum([0, *(len(text) + 1 for text in encoded)])
    hashes, starts = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for start, end in _blocks(data):
        found, places = _hashes(data[start:end])
        hashes.append(found)
        starts.append(places + start)
    return np.concatenate(hashes), np.searchsorted(np.concatenate(starts), begins)


def pieces(rows: Iterable[Sequence[str]], size: int = BLOCK) -> Iterator[tuple[int, list[Sequence[str]]]]:
    """Neighbouring rows, each given as its texts, of `size` characters together, and the number (from 0) of the first of them."""
    start, piece, held = 0, [], 0
    for row in rows:
        piece.append(row)
        held += sum(map(len, row))
        if held >= size:
            yield start, piece
            start, piece, held = start + len(piece), [], 0
    if piece:
        yield start, piece


def _bytes(text: str) -> bytes:
    """UTF-8 of `text` in which letters outside ASCII are small, and what is neither ASCII nor part of a word is blank."""
    if text.isascii():
        return text.encode()
    return OTHERS.sub(lambda run: run[0].translate(PLAIN), unicodedata.normalize("NFKC", text)).encode()


def _blocks(data: bytes) -> Iterator[tuple[int, int]]:
    """Edges of pieces of about BLOCK bytes that part no word."""
    start = 0
    while start < len(data):
        cut = data.find(BLANK, start + BLOCK)
        end = len(data) if cut < 0 else cut
        yield start, end
        start = end


def _hashes(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Hash and place of each word of `data`."""
    data = BLANK + data.translate(ASCII) + BLANK * (LONGEST + 8)
    inside = np.frombuffer(data, np.uint8) != BLANK[0]
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    starts, sizes = _short(edges[::2], edges[1::2] - edges[::2])
    eight = np.ndarray(len(data) - 7, "<u8", data, strides=(1,))  # the eight bytes from each place on
    hashes = (eight[starts] & FIRST_BYTES[np.minimum(sizes, 8)]) * MIX
    hashes ^= hashes >> HIGH
    for done in range(8, LONGEST, 8):
        longer = np.flatnonzero(sizes > done)
        more = eight[starts[longer] + done] & FIRST_BYTES[np.minimum(sizes[longer] - done, 8)]
        more = (hashes[longer] ^ more) * MIX
        hashes[longer] = more ^ (more >> HIGH)
    hashes *= LAST
    return hashes ^ (hashes >> HIGH), starts - len(BLANK)


def _short(starts: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places and sizes of runs, those longer than LONGEST cut into several."""
    long = np.flatnonzero(sizes > LONGEST)
    pieces = -(-sizes[long] // LONGEST)
    number = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)  # of each piece in its run
    begins = (np.repeat(starts[long], pieces) + number * LONGEST)[number > 0]
    left = (np.repeat(sizes[long], pieces) - number * LONGEST)[number > 0]
    behind = np.repeat(long + 1, pieces - 1)
    return np.insert(starts, behind, begins), np.insert(np.minimum(sizes, LONGEST), behind, np.minimum(left, LONGEST))


def ngrams(words: np.ndarray, edges: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the runs of `n` words within each text, uint64 [runs], and their edges by text, int64 [texts + 1].

    A text of fewer than `n` words has none (`whole_texts` hashes those).
    """
    sizes = np.diff(edges)
    counts = np.maximum(sizes - n + 1, 0)
    if len(words) < n:
        return words[:0], np.zeros(len(edges), np.int64)
    whole = np.ones(len(words), bool)
    for back in range(1, n):  # the last words of a text begin no run
        whole[edges[1:][sizes >= back] - back] = False
    return _windows(words, n)[whole[: len(words) - n + 1]], np.concatenate(([0], np.cumsum(counts)))


def _windows(words: np.ndarray, n: int) -> np.ndarray:
    """A polynomial's value for each `n` neighbours, from those of half as many."""
    if n == 1:
        return words
    half, odd = _windows(words, n // 2), n % 2
    both = half[: len(half) - n // 2] * _power(n // 2) + half[n // 2 :]
    return both[: len(both) - 1] * BASE + words[n - 1 :] if odd else both


def _power(exponent: int) -> np.uint64:
    return np.uint64(pow(int(BASE), exponent, 1 << 64))


def whole_texts(words: np.ndarray, edges: np.ndarray, sizes: range) -> tuple[np.ndarray, np.ndarray]:
    """Hash of each text that has a number of words in `sizes`, uint64 [such texts], and which texts those are."""
    lengths = np.diff(edges)
    chosen = [np.flatnonzero(lengths == size) for size in sizes]
    hashes = [_whole(words, edges[:-1][texts], size) for size, texts in zip(sizes, chosen, strict=True)]
    return np.concatenate([words[:0], *hashes]), np.concatenate([np.zeros(0, np.int64), *chosen])


def _whole(words: np.ndarray, starts: np.ndarray, size: int) -> np.ndarray:
    """The same polynomial over the `size` words from each of `starts` on."""
    total = np.zeros(len(starts), np.uint64)
    for place in range(size):
        total = total * BASE + words[starts + place]
    return total
