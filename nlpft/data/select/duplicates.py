"""Duplicates: rows of equal content, and near duplicates by MinHash and locality-sensitive hashing (Broder 1997; Gionis 1999).

A row is a near duplicate if its set of word 5-grams has a Jaccard similarity of `threshold` or more with that of an earlier
row that stays. So every row that goes resembles one that stays, and no chain of small changes takes away what is unlike all of
them. Case, punctuation, symbols, roles and system turns do not count: rows that differ in nothing else are near duplicates.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from xxhash import xxh3_64_intdigest

from nlpft.data.engines import one_thread
from nlpft.data.select.words import ngrams, pieces, whole_texts, word_hashes
from nlpft.types import Conversation

SAME, NEAR = "duplicate", "near duplicate"  # the reasons in the ledger
SHINGLE = 5  # words, as in Lee et al. 2022
SLOTS = 128  # of a signature, 4 bytes each
SEED = 1
MISSED = 0.01  # chance, at most, that a pair as similar as the threshold is never compared
CROWD = 100  # rows that a bucket takes; what more rows share is a form that was filled in, and comparing all would take hours
DOUBT = 0.15  # how far a signature's estimate may lie below the similarity: four standard deviations at 0.8


class Duplicate(NamedTuple):
    """A row that says again what another one says. Rows count from 0, in the order in which they were given."""

    row: int
    of: int  # an earlier row, of equal content or (NEAR) one that stays
    reason: str  # SAME or NEAR


class Sketches(NamedTuple):
    """What rows are compared by."""

    signatures: np.ndarray  # uint32 [rows, SLOTS]
    shingles: (
        np.ndarray
    )  # uint64 [shingles]: those of one row after those of another, in the order of its words, with repeats
    edges: np.ndarray  # int64 [rows + 1]: where the shingles of each row begin and end


def find(
    keys: Sequence[int] | np.ndarray,
    signatures: np.ndarray | None = None,
    threshold: float = 0.8,
    shingles: Callable[[int], np.ndarray] | None = None,
) -> list[Duplicate]:
    """The rows to leave out, in order.

    keys: [rows], by `content_key`. signatures: [rows, SLOTS], by `signatures`; without them only equal rows are found.
    shingles: gives those of a row, by its number (from `sketches`, or `shingles_of`; it is asked for candidates only);
    without it the signatures' estimate decides, not the similarity itself (standard error 0.035 at 0.8).
    """
    rows = np.arange(len(keys))
    _, first, inverse = np.unique(np.asarray(keys, np.uint64), return_index=True, return_inverse=True)
    of = first[inverse]
    found = [Duplicate(row, int(of[row]), SAME) for row in np.flatnonzero(of < rows).tolist()]
    if signatures is not None:
        different = np.flatnonzero(of == rows)
        read = None if shingles is None else lambda number: np.unique(shingles(int(different[number])))
        near = _near(signatures[different], threshold, read)
        found += [Duplicate(int(different[row]), int(different[other]), NEAR) for row, other in near]
    return sorted(found)


def texts_of(conversation: Conversation) -> list[str]:
    """What a conversation is compared by. System turns are left out: many rows share a long one and nothing else."""
    return [message.content for message in conversation.messages if message.role != "system"] or [conversation.text]


def signatures(rows: Sequence[Sequence[str]]) -> np.ndarray:
    """MinHash signatures, uint32 [rows, SLOTS], of rows that are given as their texts (`texts_of`) in order."""
    return sketches(rows).signatures


def sketches(rows: Sequence[Sequence[str]]) -> Sketches:
    """Signatures and shingles of rows that are given as their texts (`texts_of`) in order: all at once, for speed."""
    one_thread()  # else rensa starts threads, and whatever is forked afterwards hangs in it
    from rensa import RMinHash

    found, shingles, sizes = [np.zeros((0, SLOTS), np.uint32)], [np.zeros(0, np.uint64)], [np.zeros(1, np.int64)]
    for _, piece in pieces(rows):
        hashes, edges = _shingles(piece)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, edges.tolist(), SLOTS, SEED)
        found.append(np.array(matrix.to_rows(), np.uint32))
        shingles.append(hashes)
        sizes.append(np.diff(edges))
    return Sketches(np.concatenate(found), np.concatenate(shingles), np.cumsum(np.concatenate(sizes)))


def shingles_of(texts: Sequence[str]) -> np.ndarray:
    """The set of a row's shingles as sorted hashes, uint64 [shingles], never empty."""
    return np.unique(_shingles([texts])[0])


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Similarity of two sets of `shingles_of`, 0 to 1."""
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / (len(one) + len(other) - common)


def _shingles(rows: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the shingles of each row, uint64 [shingles], and their edges by row, int64 [rows + 1].

    A row of fewer words has itself as its one shingle; one without any word, its bytes.
    """
    words, edges = word_hashes([text for row in rows for text in row])
    edges = edges[np.cumsum([0, *map(len, rows)])]
    hashes, begins = ngrams(words, edges, SHINGLE)
    short, which = whole_texts(words, edges, range(1, SHINGLE))
    wordless = np.flatnonzero(np.diff(edges) == 0)
    raw = [xxh3_64_intdigest("\0".join(rows[row]).encode("utf-8", "surrogatepass")) for row in wordless.tolist()]
    single = np.concatenate([which, wordless])
    order = np.argsort(single)
    hashes = np.insert(hashes, begins[single[order]], np.concatenate([short, np.array(raw, np.uint64)])[order])
    return hashes, np.concatenate(([0], np.cumsum(np.maximum(np.diff(begins), 1))))


def _near(
    signatures: np.ndarray, threshold: float, shingles: Callable[[int], np.ndarray] | None
) -> Iterator[tuple[int, int]]:
    """(row, earlier row that stays and is as similar as `threshold`), rows in order."""
    buckets = _buckets(signatures, *bands(threshold))
    read = functools.lru_cache(256)(shingles) if shingles else None
    staying: dict[int, list[int]] = {}
    for row in np.flatnonzero((buckets >= 0).any(axis=1)).tolist():
        own = [bucket for bucket in buckets[row].tolist() if bucket >= 0]
        others = sorted({other for bucket in own for other in staying.get(bucket, ())})
        of = _first_similar(row, others, signatures, threshold, read)
        if of is not None:
            yield row, of
            continue
        for alike in (staying.setdefault(bucket, []) for bucket in own):
            if len(alike) < CROWD:
                alike.append(row)


def _first_similar(
    row: int, others: list[int], signatures: np.ndarray, threshold: float, read: Callable[[int], np.ndarray] | None
) -> int | None:
    """The earliest of `others` that is as similar to `row` as `threshold`."""
    if not others:
        return None
    estimates = (signatures[others] == signatures[row]).mean(axis=1)
    likely = (others[place] for place in np.flatnonzero(estimates >= threshold - (DOUBT if read else 0)).tolist())
    return next((other for other in likely if read is None or jaccard(read(row), read(other)) >= threshold), None)


def bands(threshold: float) -> tuple[int, int]:
    """(number, width): the widest bands of a signature of which a pair as similar as `threshold` shares one, but for MISSED."""
    for width in range(16, 1, -1):
        number = SLOTS // width
        if (1 - threshold**width) ** number <= MISSED:
            return number, width
    return SLOTS, 1


def _buckets(signatures: np.ndarray, number: int, width: int) -> np.ndarray:
    """For each row and band a number that rows of an equal band share, int64 [rows, bands], or -1 where a row is alone."""
    odd = np.random.default_rng(SEED).integers(0, 1 << 63, width, np.uint64) * np.uint64(2) + np.uint64(1)
    found = np.full((len(signatures), number), -1)
    for band in range(number):
        part = (signatures[:, band * width : (band + 1) * width] * odd).sum(axis=1)  # uint64, modulo 2^64
        _, inverse, counts = np.unique(part, return_inverse=True, return_counts=True)
        shared = counts[inverse] > 1
        found[shared, band] = inverse[shared] * number + band
    return found
