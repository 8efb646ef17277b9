"""Folders and files that are there as a whole or not at all."""

import contextlib
import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nlpft.errors import DataError, Interrupted, RunExists, UserError

MADE_BY_US = ("nlpft.json", "results.json")  # one of them lies in every folder that may be replaced
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # there is no room for more
LOCK = "lock"  # held in a folder of work for as long as its process lives


def check_free(folder: Path, overwrite: bool = False) -> None:
    """Raise RunExists where `folder` holds something and may not be replaced: it never may if nlpft has not made it."""
    if not folder.is_symlink() and (not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))):
        return
    ours = folder.is_dir() and not folder.is_symlink() and any((folder / name).is_file() for name in MADE_BY_US)
    if not ours:
        raise RunExists(f"{folder}: already there, and not a folder that nlpft has made; choose another")
    if not overwrite:
        raise RunExists(f"{folder}: already there; choose another folder or allow it by --overwrite")


@contextlib.contextmanager
def _work_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target` for what is not whole yet, which vanishes; so do those that killed processes left for it."""
    from filelock import FileLock

    name = f".{target.name}.new-"  # which no folder of `resumable_folder` has
    for left in sorted(target.parent.glob(f"{glob.escape(name)}????????.partial")):
        _remove_abandoned(left)
    work = Path(tempfile.mkdtemp(prefix=name, suffix=".partial", dir=target.parent))
    lock = FileLock(work / LOCK)
    with contextlib.suppress(
        OSError, NotImplementedError
    ):  # a file system without locks: nobody takes it for abandoned
        lock.acquire(timeout=0)
    try:
        yield work
    finally:
        lock.release()
        shutil.rmtree(work, ignore_errors=True)


def _remove_abandoned(work: Path) -> None:
    """Remove a folder of work whose process is gone."""
    from filelock import FileLock

    if (work / LOCK).is_file():
        with (
            contextlib.suppress(OSError, NotImplementedError),
            FileLock(work / LOCK, timeout=0),
        ):  # Timeout is an OSError
            shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def whole_folder(folder: Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder that becomes `folder` if the block ends well, and vanishes otherwise.

    Raises RunExists as `check_free` does, DataError where nothing can be written there.
    """
    check_free(folder, overwrite)
    with contextlib.ExitStack() as stack:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            work = stack.enter_context(_work_folder(folder))
            new, old = work / "new", work / "old"
            new.mkdir()
        except OSError as error:
            raise DataError(f"{folder}: cannot be written: {error.strerror}") from error
        yield new
        if folder.is_dir():  # two renames: at no moment is there half a folder under its name
            folder.rename(old)
        new.rename(folder)


@contextlib.contextmanager
def whole_file(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder for `path` and the files that belong beside it: they move there if the block ends well, `path` last.

    Otherwise nothing is left, and an earlier `path` stays as it was. Raises RunExists where `path` is there and may not be
    replaced, DataError where it is a folder or nothing can be written there.
    """
    _check_file(path, overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _work_folder(path) as work:
            new = work / "new"
            new.mkdir()
            yield new
            made = sorted(new.iterdir(), key=lambda file: file.name == path.name)
            for file in made:  # all of them, before the first one moves
                _check_file(path.with_name(file.name), overwrite=True)
            for file in made:
                file.replace(path.with_name(file.name))
    except OSError as error:
        remedy = "free space" if error.errno in FULL else "check the folder and who may write to it (ls -ld)"
        raise DataError(
            f"{path}: cannot be written ({error.strerror}), and nothing was; {remedy} and call again"
        ) from error


def _check_file(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise DataError(f"{path}: a folder, where a file is to be written; name a file")
    if not overwrite and (path.exists() or path.is_symlink()):
        raise RunExists(f"{path}: already there; choose another name or allow it by --overwrite")


@contextlib.contextmanager
def resumable_folder(
    folder: Path, key: str, overwrite: bool = False, keep: bool = False
) -> Iterator[tuple[Path, Path]]:
    """(new, parts): `new` becomes `folder` if the block ends well; `parts` is kept if the process is killed, or cannot go on.

    Whoever comes next with the same `key` finds the parts again. After a UserError nothing is left: it would come again.
    keep: the parts are kept after a UserError, too, and after success, when they are the caller's to remove.
    Raises RunExists as `check_free` does, DataError where nothing can be written there.
    """
    check_free(folder, overwrite)
    parts = parts_folder(folder, key)
    work = parts.parent
    new, old = work / "new", work / "old"
    try:
        if work.is_dir() and not parts.is_dir():  # of other input or other settings
            shutil.rmtree(work)
        parts.mkdir(parents=True, exist_ok=True)
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
        new.mkdir()
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror}") from error
    try:
        yield new, parts
        if folder.is_dir():  # two renames: at no moment is there half a folder under its name
            folder.rename(old)
        new.rename(folder)
    except Interrupted:
        raise
    except UserError:
        if not (keep and any(parts.iterdir())):
            shutil.rmtree(work, ignore_errors=True)
        raise
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise DataError(
            f"{work}: no space left on the disk; what is finished is kept there: free space and call again"
        ) from error
    shutil.rmtree(old if keep else work, ignore_errors=True)


def parts_folder(folder: Path, key: str) -> Path:
    """Where `resumable_folder` keeps the parts of `folder`."""
    return folder.with_name(f".{folder.name}.partial") / f"parts-{key}"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """While the block runs, no other process makes `folder`; it waits as long as that takes."""
    from filelock import FileLock

    path = folder.with_name(f".{folder.name}.lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        lock.acquire()
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: whoever waits sees that the file has gone, and makes it anew
        lock.release()


def write_text(path: Path, text: str) -> None:
    """Replace a file as a whole: whoever reads it sees the old text or the new."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def cache_dir() -> Path:
    """Where nlpft keeps what it has made once: $NLPFT_CACHE, else nlpft below $XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("NLPFT_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "nlpft"
