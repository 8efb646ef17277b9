"""A first look at the whole corpus, where rows are to be left out for what other rows or benchmarks say.

Workers read slice by slice what a row is recognised by; the main process, which sees all of it, decides.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nlpft.data.read import read
from nlpft.data.rows import Bad
from nlpft.data.select import contamination, duplicates
from nlpft.data.select.contamination import Index, Overlap, item_texts
from nlpft.data.select.keys import content_key
from nlpft.data.select.settings import Selection
from nlpft.data.slices import Slice
from nlpft.data.sources import Source
from nlpft.data.work import Job, Worker
from nlpft.errors import DataError, RowRejected

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

    job: Job
    benchmarks: Index | None
    folder: Path  # for shingles, which are too many to keep in memory


def looker(given: Looker) -> Callable[[int, Slice], Look]:
    """What looks at slices, for `spread`.

    Only rows that would be in the dataset are looked at: whatever is left out as a duplicate resembles one that stays.
    """
    worker, options = Worker(given.job), given.job.options

    def look(number: int, piece: Slice) -> Look:
        usable = worker.usable(piece)
        found = [conversation for _, conversation in usable]
        sketches = None
        if options.duplicates == "near":
            sketches = duplicates.sketches([duplicates.texts_of(row) for row in found])
            np.save(given.folder / f"{number}.npy", sketches.shingles)
            np.save(given.folder / f"{number}.edges.npy", sketches.edges)
        overlaps: list[Overlap] = []
        if given.benchmarks is not None:
            texts = [[m.content for m in row.messages] or [row.text] for row in found]
            overlaps = contamination.overlaps(texts, given.benchmarks, options.contamination_share)
        return Look(
            np.array([i for i, _ in usable], np.int64),
            [row.source for row in found],
            np.array([content_key(row) for row in found], np.uint64),
            sketches.signatures if sketches is not None else None,
            overlaps,
        )

    return look


def is_needed(selection: Selection) -> bool:
    """Whether any rows are to be left out for what stands elsewhere."""
    return selection.duplicates != "keep" or bool(selection.contamination)


def benchmark_index(files: Sequence[Source], words: int) -> Index | None:
    """The items of benchmark files by runs of `words`; None without files. Raises DataError where one is not whole."""
    return contamination.index(_items(files), words) if files else None


def decide(looks: Sequence[Look], selection: Selection, folder: Path) -> list[Dropped]:
    """The rows that are left out, by slice; a row is compared with those only that are not left out as benchmark items."""
    out: list[Dropped] = [{} for _ in looks]
    for dropped, look in zip(out, looks, strict=True):
        for overlap in look.overlaps:
            detail = f"{overlap.share:.0%} of {overlap.item}"
            dropped[int(look.rows[overlap.row])] = RowRejected(contamination.REASON, detail)
    if selection.duplicates != "keep":
        for i, row, why in _duplicates(looks, out, selection, folder):
            out[i][row] = why
    return out


def _duplicates(
    looks: Sequence[Look], dropped: Sequence[Dropped], selection: Selection, folder: Path
) -> Iterator[tuple[int, int, RowRejected]]:
    """(slice, row, why) of every row that says again what an earlier one says."""
    places = np.concatenate([np.stack([np.full_like(look.rows, i), look.rows], 1) for i, look in enumerate(looks)])
    own = np.concatenate([np.arange(len(look.rows)) for look in looks])  # number among the usable rows of its slice
    stays = np.array([row not in dropped[i] for i, row in places.tolist()], bool)
    keys = np.concatenate([look.keys for look in looks])[stays]
    places, own, signatures, shingles = places[stays].tolist(), own[stays].tolist(), None, None
    if selection.duplicates == "near":
        signatures = np.concatenate([look.signatures for look in looks if look.signatures is not None])[stays]
        read_shingles = _shingle_reader(folder)
        shingles = lambda row: read_shingles(places[row][0], own[row])  # noqa: E731
    for row, of, reason in duplicates.find(keys, signatures, selection.duplicates_threshold, shingles):
        (i, number), source = places[row], looks[places[of][0]].sources[own[of]]
        yield i, number, RowRejected(reason, f"of {source}")


def _items(files: Sequence[Source]) -> Iterator[tuple[str, list[str]]]:
    for source in files:
        for record in read(source):
            if isinstance(record, Bad):
                raise DataError(f"{record.source}: {record.error}; a benchmark's file must be readable as a whole")
            yield record.source, item_texts(record.data)


def _shingle_reader(folder: Path) -> Callable[[int, int], np.ndarray]:
    """Shingles of a row, by slice and number among its usable rows."""
    opened: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def shingles(number: int, row: int) -> np.ndarray:
        if number not in opened:
            values = np.load(folder / f"{number}.npy", mmap_mode="r")
            opened[number] = values, np.load(folder / f"{number}.edges.npy")
        values, edges = opened[number]
        return np.asarray(values[edges[row] : edges[row + 1]])

    return shingles
