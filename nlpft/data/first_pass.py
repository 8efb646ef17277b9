"""A first look at the whole corpus, where rows are to be left out for what other rows or benchmarks say.

Workers read slice by slice what a row is recognised by; the main process, which sees all of it, decides.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nlpft.data import sources
from nlpft.data.conversation import Reading, conversation
from nlpft.data.rows import Bad, rows
from nlpft.data.select import contamination, duplicates
from nlpft.data.select.contamination import Index, Overlap, item_texts
from nlpft.data.select.keys import content_key
from nlpft.data.select.settings import Selection
from nlpft.data.slices import CutOff, Slice, cut
from nlpft.errors import RowRejected

Dropped = dict[int, RowRejected]  # rows of a slice, by number, that are left out, and why


class Look(NamedTuple):
    """What the usable rows of a slice are recognised by."""

    rows: np.ndarray  # int64 [usable rows]: their numbers in the slice
    sources: list[str]  # [usable rows]
    keys: np.ndarray  # uint64 [usable rows]
    signatures: np.ndarray | None  # [usable rows, slots], where near duplicates are looked for
    overlaps: list[Overlap]  # `row` counts usable rows


class Looker(NamedTuple):
    """What a worker needs."""

    reading: Reading
    near: bool
    index: Index | None
    folder: Path  # for shingles, which are too many to keep in memory

    def look(self, number: int, piece: Slice) -> Look:
        """Slice `number` of the corpus."""
        usable = list(_usable(piece, self.reading))
        texts = [duplicates.texts_of(found) for _, found in usable] if self.near or self.index else []
        if self.near:
            _save_shingles(self.folder / str(number), [duplicates.shingles_of(row) for row in texts])
        return Look(
            np.array([i for i, _ in usable], np.int64),
            [found.source for _, found in usable],
            np.array([content_key(found) for _, found in usable], np.uint64),
            duplicates.signatures(texts) if self.near else None,
            contamination.overlaps(texts, self.index) if self.index else [],
        )


def looker(job: Looker) -> Callable[[int, Slice], Look]:
    """What looks at slices, for `spread`."""
    return job.look


def is_needed(selection: Selection) -> bool:
    """Whether any rows are to be left out for what stands elsewhere."""
    return selection.duplicates != "keep" or bool(selection.contamination)


def benchmark_index(selection: Selection) -> Index | None:
    """The items of the benchmark files; None where there are none. Raises DataError where a file cannot be read."""
    if not selection.contamination:
        return None
    return contamination.index(_items(selection.contamination), selection.contamination_words)


def decide(looks: Sequence[Look], selection: Selection, folder: Path) -> list[Dropped]:
    """The rows that are left out, by slice."""
    out: list[Dropped] = [{} for _ in looks]
    for i, look in enumerate(looks):
        for overlap in look.overlaps:
            if overlap.share >= selection.contamination_share:
                detail = f"{overlap.share:.0%} of {overlap.item}"
                out[i][int(look.rows[overlap.row])] = RowRejected(contamination.REASON, detail)
    if selection.duplicates != "keep":
        for i, row, why in _duplicates(looks, selection, folder):
            out[i].setdefault(row, why)
    return out


def _duplicates(looks: Sequence[Look], selection: Selection, folder: Path) -> Iterator[tuple[int, int, RowRejected]]:
    """(slice, row, why) of every row that says again what an earlier one says."""
    first = np.cumsum([0, *(len(look.rows) for look in looks)])
    signatures = None
    if selection.duplicates == "near":
        signatures = np.concatenate([look.signatures for look in looks if look.signatures is not None])
    found = duplicates.find(
        np.concatenate([look.keys for look in looks]),
        signatures,
        selection.duplicates_threshold,
        _shingle_reader(folder, first) if signatures is not None else None,
    )
    for row, of, reason in found:
        at, other = (int(np.searchsorted(first, number, "right")) - 1 for number in (row, of))
        source = looks[other].sources[of - first[other]]
        yield at, int(looks[at].rows[row - first[at]]), RowRejected(reason, f"of {source}")


def _usable(piece: Slice, reading: Reading) -> Iterator[tuple[int, object]]:
    read = rows(piece)
    for i, record in enumerate(read.records):
        if isinstance(record, Bad):
            continue
        try:
            yield i, conversation(record, reading, i in read.suspect)
        except RowRejected:
            continue  # the second pass rejects it, with its reason


def _items(names: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    for source in sources.find(list(names), "auto"):
        for piece in cut(source, CutOff()):
            for record in rows(piece).records:
                if not isinstance(record, Bad):
                    yield record.source, item_texts(record.data)


def _save_shingles(path: Path, shingles: Sequence[np.ndarray]) -> None:
    np.save(path.with_suffix(".ends.npy"), np.cumsum([0, *map(len, shingles)]))
    np.save(path.with_suffix(".npy"), np.concatenate([*shingles, np.empty(0, np.uint64)]))


def _shingle_reader(folder: Path, first: np.ndarray) -> Callable[[int], np.ndarray]:
    """Shingles of a row by its number among all usable ones."""
    opened: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def shingles(row: int) -> np.ndarray:
        number = int(np.searchsorted(first, row, "right")) - 1
        if number not in opened:
            path = folder / str(number)
            opened[number] = np.load(path.with_suffix(".ends.npy")), np.load(path.with_suffix(".npy"), mmap_mode="r")
        ends, values = opened[number]
        at = row - int(first[number])
        return np.asarray(values[ends[at] : ends[at + 1]])

    return shingles
