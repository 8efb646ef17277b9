"""Names on the command line -> input files with their splits: FILE, SPLIT=FILE, folders of saved datasets or parallel files."""

import atexit
import codecs
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from nlpft.data import sources, stream
from nlpft.data.labelled.rows import SPLITS
from nlpft.data.read import file_bytes
from nlpft.errors import ConfigError, DataError

NAMED = re.compile(r"(\w[\w-]*)=(.+)", re.DOTALL)
PARALLEL = ("seq.in", "seq.out", "label")


class Input(NamedTuple):
    """A file, or a folder that stands for one."""

    split: str  # '' where none is named
    name: str  # as messages call it
    path: Path


def find(names: Sequence[str]) -> list[Input]:
    """The inputs in their order, each with its split: all have one or none has.

    Raises DataError where a name stands for nothing, ConfigError where only some name their split.
    """
    found = [one for name in names for one in _inputs(name)]
    splits = {one.split for one in found}
    if len(splits) > 1 and "" in splits:
        unnamed = next(one.name for one in found if not one.split)
        raise ConfigError(f"{unnamed}: in no split; write SPLIT={unnamed}, as for the other files")
    return found


def _inputs(name: str) -> Iterator[Input]:
    """Inputs that one word stands for."""
    named = None if Path(name).exists() else NAMED.fullmatch(name)
    split, place = (named[1], named[2]) if named else ("", name)
    path = Path(place)
    below = _splits_below(path) if path.is_dir() else []
    if below and not split:
        yield from (Input(folder.name, str(folder), folder) for folder in below)
    elif path.is_dir() and (is_saved(path) or is_parallel(path)):
        yield Input(split, place, path)
    else:
        yield from (Input(split, shown, Path(found or shown)) for shown, found in _files(place))


def _files(name: str) -> Iterator[tuple[str, Path | None]]:
    for shown, path in sources.files(name):
        yield shown, path if path and path.is_file() else sources.spooled(path, shown)


def is_saved(folder: Path) -> bool:
    """Whether a folder is a dataset that `datasets` has saved."""
    return (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()


def is_parallel(folder: Path) -> bool:
    """Whether a folder has files of words and of their tags, line by line (SNIPS, ATIS)."""
    return (folder / PARALLEL[0]).is_file()


def _splits_below(folder: Path) -> list[Path]:
    """The folders of splits in a folder: of a saved DatasetDict, or of parallel files."""
    if (folder / "dataset_dict.json").is_file():
        return sorted((path for path in folder.iterdir() if is_saved(path)), key=_order)
    return [folder / name for name in SPLITS if is_parallel(folder / name)]


def _order(path: Path) -> tuple[int, str]:
    return (SPLITS.index(path.name) if path.name in SPLITS else len(SPLITS), path.name)


def files(one: Input) -> list[Path]:
    """The files that an input is read from."""
    if not one.path.is_dir():
        return [one.path]
    return sorted(path for path in one.path.iterdir() if path.is_file())


def data(path: Path, name: str, encoding: str) -> bytes:
    """All of a text file, unpacked, as UTF-8. Raises DataError where it cannot be read or is in another encoding."""
    compression = stream.compression_of(next(stream.blocks(path, "", 4), b""))
    raw = b"".join(stream.blocks(path, compression, 1 << 20)) if compression else file_bytes(path)
    if codecs.lookup(encoding).name == "utf-8":
        return raw.removeprefix(codecs.BOM_UTF8)
    try:
        return raw.decode(encoding).encode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(f"{name}:{line}: not {encoding}: byte 0x{raw[error.start]:02x} ({error.reason})") from error


def recoded(path: Path, name: str, encoding: str) -> Path:
    """A file in UTF-8 with the content of one in another encoding."""
    if codecs.lookup(encoding).name == "utf-8":
        return path
    folder = Path(tempfile.mkdtemp(prefix="nlpft-recoded-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copy = folder / path.name
    copy.write_bytes(data(path, name, encoding))
    return copy
