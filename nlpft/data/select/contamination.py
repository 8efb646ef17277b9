"""Contamination: benchmark items in training rows, by runs of n words in common (Brown et al. 2020, appendix C: n is 8 to 13).

Words are those of `words`: lower case, without punctuation. A run is looked for within single texts (turns; fields of an item).
Runs that more than ten items of the benchmarks share are their common phrasing and count for nothing. An item's text of fewer
than n words is found only as the whole of a turn, and only if it has at least five words: "Yes" or a name is no evidence.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nlpft.data.select.words import ngrams, pieces, whole_texts, word_hashes

REASON = "benchmark item"  # in the ledger
COMMON = 10  # items that may share a run of words
SHORTEST = 5  # words of a text that is looked for as a whole
SIEVE = 24  # bits: 16 MiB that say of nearly every other hash that it is not in the index


class Index(NamedTuple):
    """What benchmark items are recognised by. Arrays only, so that forked workers share it."""

    n: int  # words of a run
    hashes: np.ndarray  # uint64 [hashes], sorted: runs of n words, and short texts as a whole
    edges: np.ndarray  # int64 [hashes + 1]: where the items of each hash stand in `items`
    items: np.ndarray  # int64 [pairs]
    sizes: np.ndarray  # int64 [items]: hashes of each item
    sources: tuple[str, ...]  # of the items: FILE:ROW
    sieve: np.ndarray  # bool [2**SIEVE], by the upper bits of a hash


class Overlap(NamedTuple):
    """A row that holds (part of) a benchmark item: of several, the one that it holds the largest share of."""

    row: int  # from 0, in the order given
    item: str  # FILE:ROW
    share: float  # of the item's runs of words that the row holds, above 0


def item_texts(data: Any) -> list[str]:
    """Every text in a benchmark's record, whatever its keys and its nesting."""
    found, waiting = [], [data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, (dict, list, tuple)):
            waiting.extend(value.values() if isinstance(value, dict) else value)
    return found


def index(items: Iterable[tuple[str, Sequence[str]]], n: int = 13) -> Index:
    """The index of benchmark items, each its source and its texts."""
    items = list(items)
    hashes, owners = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for start, rows in pieces(texts for _, texts in items):
        found, row = _runs(rows, n)
        hashes.append(found)
        owners.append(start + row)
    return _index(np.concatenate(hashes), np.concatenate(owners), tuple(source for source, _ in items), n)


def _index(hashes: np.ndarray, owners: np.ndarray, sources: tuple[str, ...], n: int) -> Index:
    order = np.lexsort((owners, hashes))
    hashes, owners = hashes[order], owners[order]
    new = np.ones(len(hashes), bool)
    new[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
    hashes, owners = hashes[new], owners[new]
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    rare = counts[inverse] <= COMMON
    owners = owners[rare]
    hashes, begins = np.unique(hashes[rare], return_index=True)
    sieve = np.zeros(1 << SIEVE, bool)
    sieve[hashes >> np.uint64(64 - SIEVE)] = True
    sizes = np.bincount(owners, minlength=len(sources))
    return Index(n, hashes, np.append(begins, len(owners)), owners, sizes, sources, sieve)


def overlaps(rows: Sequence[Sequence[str]], index: Index, least: float = 0.0) -> list[Overlap]:
    """The rows, given as their texts, that hold a run of words of a benchmark item, and `least` of all its runs or more."""
    found = []
    for start, piece in pieces(rows):
        places, row = _known(*_runs(piece, index.n), index)
        found += [_best(start + number, np.unique(places[row == number]), index) for number in np.unique(row).tolist()]
    return [overlap for overlap in found if overlap.share >= least]


def _known(hashes: np.ndarray, rows: np.ndarray, index: Index) -> tuple[np.ndarray, np.ndarray]:
    """Places in the index of the hashes that it knows, and their rows."""
    maybe = np.flatnonzero(index.sieve[hashes >> np.uint64(64 - SIEVE)])
    places = np.minimum(np.searchsorted(index.hashes, hashes[maybe]), len(index.hashes) - 1)
    known = index.hashes[places] == hashes[maybe]
    return places[known], rows[maybe[known]]


def _best(row: int, places: np.ndarray, index: Index) -> Overlap:
    """The overlap with the item of which these hashes are the largest share, the first of them where several are."""
    counts = Counter(
        item for place in places.tolist() for item in index.items[index.edges[place] : index.edges[place + 1]].tolist()
    )
    shares = {item: count / int(index.sizes[item]) for item, count in counts.items()}
    item = min(shares, key=lambda item: (-shares[item], item))
    return Overlap(row, index.sources[item], shares[item])


def _runs(rows: Sequence[Sequence[str]], n: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of runs of `n` words, and of the whole of shorter texts, uint64 [runs]; which row each stands in, int64 [runs]."""
    words, edges = word_hashes([text for row in rows for text in row])
    owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    hashes, begins = ngrams(words, edges, n)
    short, which = whole_texts(words, edges, range(SHORTEST, n))
    return np.concatenate([hashes, short]), owner[
        np.concatenate([np.repeat(np.arange(len(owner)), np.diff(begins)), which])
    ]
