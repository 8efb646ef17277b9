"""Names on the command line -> corpus files: files, globs, folders, hub dataset ids, '-' for standard input.

What a file is, its first bytes say before its ending does: JSON in a .txt file is JSON, and JSON lines may be called .json.
"""

import atexit
import contextlib
import glob
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import xxhash

from nlpft.data import stream
from nlpft.data.head import Kind, looks
from nlpft.data.stream import Compression
from nlpft.errors import DataError

ENDINGS = (
    ".json",
    ".jsonl",
    ".ndjson",
    ".parquet",
    ".csv",
    ".tsv",
    ".txt",
)  # of the files that are taken from a folder
PACKED = (".gz", ".zst")
NO_ROWS = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json"}  # they describe the data beside them
BESIDE = (".ledger.json", ".rejected.jsonl")  # endings of what `nlpft convert --to` writes beside the conversations
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
STDIN = "-"
HEAD, LINES = 4 << 20, 300  # bytes looked at, or lines


class Source(NamedTuple):
    """A corpus file."""

    name: str  # as messages and records call it
    path: Path  # of the file itself
    kind: Kind
    compression: Compression
    key: str = ""  # of the object that the rows are wrapped in: {"data": [...]}


def find(names: Sequence[str], format: str = "auto") -> list[Source]:
    """The corpus files that `names` stand for, in their order, each once; a folder's and a pattern's sorted by path.

    `format`: 'text' takes what is no JSON or table for plain text. Raises DataError where a name stands for nothing, or a file
    is none that nlpft reads.
    """
    found: dict[Path | None, Source] = {}
    for name in names:
        for shown, path in files(name, format):
            place = path and path.resolve()
            if path and path.is_file():
                found[place] = found.get(place) or source(path, shown, format)
            elif place in found:
                raise DataError(f"{shown}: named twice, but it can be read only once; save it as a file and name that")
            else:
                found[place] = source(spooled(path, shown), shown, format)
    return list(found.values())


def source(path: Path, name: str = "", format: str = "auto") -> Source:
    """What a file is. Raises DataError where it cannot be read, is empty, or is none that nlpft reads."""
    name = name or str(path)
    head, whole = _head(path, "", name)
    compression = stream.compression_of(head)
    if compression:
        head, whole = _head(path, compression, name)
    kind, key = looks(head, name, ending_of(path), format, whole)
    if kind == "parquet" and compression:
        raise DataError(f"{name}: a packed parquet file; unpack it first (parquet is compressed by itself)")
    return Source(name, path, kind, compression, key)


def fingerprint(source: Source) -> str:
    """32 hexadecimal digits (XXH3, 128 bits) that stand for the file's bytes."""
    return digest_of(source.path)


def digest_of(path: Path) -> str:
    """As `fingerprint`, of any file."""
    digest = xxhash.xxh3_128()
    for block in stream.blocks(path, "", 1 << 20):
        digest.update(block)
    return digest.hexdigest()


def ending_of(path: Path) -> str:
    """The ending that tells the kind: '.jsonl' of 'a.jsonl.gz'."""
    endings = [e.lower() for e in path.suffixes]
    return next((e for e in reversed(endings) if e not in PACKED), "")


def _head(path: Path, compression: Compression, name: str) -> tuple[bytes, bool]:
    """The file's first bytes, some hundred lines if they are short, and whether that is all of it."""
    head = bytearray()
    try:
        for block in stream.blocks(path, compression, 64 << 10):
            head += block
            if len(head) >= HEAD or (head.count(b"\n") > LINES and not head.isspace()):
                return bytes(head), False
    except stream.Damaged as error:
        if not head:
            raise DataError(f"{name}: {error}; was the download cut off?") from None
    return bytes(head), True


def files(name: str, format: str = "auto") -> Iterator[tuple[str, Path | None]]:
    """Each file's name in messages and its path; None for standard input."""
    path = Path(name)
    if name == STDIN:
        yield "stdin", None
    elif path.is_dir():
        yield from ((str(file), file) for file in _in_folder(path, name, format))
    elif path.exists():
        yield name, path
    elif glob.has_magic(name):
        yield from _matching(name)
    elif _may_be_on_the_hub(name):
        folder = _from_hub(name)
        for file in _in_folder(folder, name, format):
            yield f"{name}/{file.relative_to(folder)}", file
    else:
        raise DataError(
            f"{name}: no such file; nlpft reads files, globs, folders, dataset ids of the hub, and - (stdin)"
        )


def _in_folder(folder: Path, name: str, format: str) -> list[Path]:
    """The data files in a folder and below it, sorted; what is hidden and what a saved dataset consists of is left out."""
    endings = {*ENDINGS, ".md"} if format == "text" else set(ENDINGS)
    files, saved = [], False
    for place, folders, there in os.walk(folder, onerror=_refuse):
        if _is_saved(there):
            saved |= Path(place) == folder
            folders.clear()
            continue
        folders[:] = [below for below in folders if not _hidden(below)]
        files += [Path(place, file) for file in there if not (_hidden(file) or file in NO_ROWS or _made(file, there))]
        saved |= Path(place) == folder and any(file.endswith(".arrow") for file in there)
    found = sorted(path for path in files if ending_of(path) in endings and _is_data(path))
    if not found:
        hint = "; it holds a saved dataset: name the files that it was made from, or export it by `to_parquet`"
        raise DataError(
            f"{name}: no data files in this folder (looked for {' '.join(sorted(endings))}, also packed)"
            + (hint if saved else "")
        )
    return found


def _refuse(error: OSError) -> None:
    raise stream.cannot_read(Path(error.filename), error) from error


def _is_saved(names: Sequence[str]) -> bool:
    """Whether a folder of these files is a dataset that nlpft or `datasets` has written, perhaps from the files beside it."""
    return "nlpft.json" in names or {"state.json", "dataset_info.json"} <= set(names)


def _made(name: str, names: Sequence[str]) -> bool:
    """Whether a file is what `nlpft convert --to` writes beside the conversations."""
    return any(name.endswith(ending) and name.removesuffix(ending) in names for ending in BESIDE)


def _is_data(path: Path) -> bool:
    """Whether a path is to be read: no pipe or device, but a broken link, so that the file that is missing gets named."""
    try:
        return path.is_file() or not path.exists()
    except OSError as error:
        raise stream.cannot_read(path, error) from error


def _hidden(name: str) -> bool:
    return name.startswith((".", "__"))


def _matching(pattern: str) -> Iterator[tuple[str, Path]]:
    found = sorted(glob.glob(pattern, recursive=True))
    if not found:
        raise DataError(f"{pattern}: no file matches this pattern")
    yield from ((name, Path(name)) for name in found if not Path(name).is_dir())


def _may_be_on_the_hub(name: str) -> bool:
    """Whether a name without a file may be 'owner/name': a missing file in an existing folder is just that."""
    return bool(HUB_ID.fullmatch(name)) and ending_of(Path(name)) not in ENDINGS and not Path(name).parent.exists()


def _from_hub(name: str) -> Path:
    """The folder with a hub dataset's data files, downloaded if need be."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    patterns = [f"*{ending}{packed}" for ending in ENDINGS for packed in ("", *PACKED)]
    try:
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=patterns))
    except RepositoryNotFoundError as error:
        raise DataError(f"{name}: neither a file nor a dataset on the hub that this account may read") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise DataError(
            f"{name}: no such file, and the hub cannot be reached to see whether it is a dataset; download it elsewhere "
            "(`hf download --repo-type dataset`) and name its folder"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise DataError(f"{name}: the download failed: {error}") from error


def spooled(path: Path | None, name: str) -> Path:
    """Standard input or a pipe in a temporary file, so that it can be hashed and read by several processes."""
    folder = Path(tempfile.mkdtemp(prefix="nlpft-stdin-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    spool = folder / (path.name if path else "stdin")  # its ending may tell the kind
    try:
        opened = path.open("rb") if path else contextlib.nullcontext(sys.stdin.buffer)
    except OSError as error:
        raise stream.cannot_read(Path(name), error) from error
    try:
        with opened as file, spool.open("wb") as out:
            shutil.copyfileobj(file, out, 1 << 20)
    except OSError as error:
        raise DataError(
            f"{name}: cannot be copied to {folder}: {error.strerror or error}; save it as a file"
        ) from error
    return spool
