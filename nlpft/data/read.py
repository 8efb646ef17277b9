"""Corpus files -> records that know their place, one behind the other: the sequential reader on top of slices."""

from collections.abc import Iterator
from pathlib import Path

from nlpft.data import stream
from nlpft.data.rows import Bad as Bad
from nlpft.data.rows import rows
from nlpft.data.slices import CutOff, cut
from nlpft.data.sources import Source, source
from nlpft.errors import DataError
from nlpft.types import Record


def read(file: Path | Source, format: str = "auto", cut_off: CutOff | None = None) -> Iterator[Record | Bad]:
    """The rows of a corpus file, in order, blank lines left out.

    Raises DataError where there is no such file or nlpft does not read it, and behind the complete rows of one that is cut off;
    with `cut_off`, that is noted there instead.
    """
    found = file if isinstance(file, Source) else source(file, format=format)
    return _rows(found, cut_off)


def _rows(found: Source, cut_off: CutOff | None) -> Iterator[Record | Bad]:
    noted = cut_off if cut_off is not None else CutOff()
    for piece in cut(found, noted):
        yield from rows(piece).records
    if cut_off is None:
        check_whole(noted)


def check_whole(cut_off: CutOff) -> None:
    """Raise DataError where a file was cut off, saying at which byte."""
    for name, what in cut_off.places.items():
        raise DataError(f"{name}: {what}; was the download cut off? --allow_truncated takes the complete rows")


def file_bytes(path: Path) -> bytes:
    """All of a file. Raises DataError where it is missing or cannot be read."""
    return b"".join(stream.blocks(path, "", 1 << 20))
