"""Corpus files as blocks of bytes, unpacked on the way (.gz, .zst), in bounded memory."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import zstandard

from nlpft.errors import DataError

Compression = Literal["", "gz", "zst"]
MAGIC: dict[bytes, Compression] = {b"\x1f\x8b": "gz", b"\x28\xb5\x2f\xfd": "zst"}
PACKED = 1024  # bytes of a .zst file unpacked at a time: at the worst they become 32 MB
SAFE = 64 << 20  # unpacked bytes that are never too many
LARGEST_RATIO = 200  # unpacked bytes to packed ones; corpora have 3 to 30
LARGEST = 256 << 30  # unpacked bytes of a file


class Damaged(Exception):
    """A packed file ends too early or does not unpack; all that came before has been given."""


def blocks(path: Path, compression: Compression, size: int) -> Iterator[bytes]:
    """The file's bytes, unpacked, in blocks of `size` or a little more; the last one may be shorter.

    Raises DataError where the file cannot be read, or unpacks to suspiciously much, and Damaged behind the last good byte.
    """
    try:
        with path.open("rb") as file:
            if compression:
                yield from _joined(_guarded(path, _unpacked(file, compression)), size)
            else:
                while block := file.read(size):
                    yield block
    except OSError as error:
        raise cannot_read(path, error) from error


def cannot_read(path: Path, error: OSError) -> DataError:
    """The error to show for one of the operating system's."""
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: no such file")
    remedy = "; check who may read it (ls -l)" if isinstance(error, PermissionError) else ""
    return DataError(f"{path}: cannot be read: {error.strerror or error}{remedy}")


def compression_of(head: bytes) -> Compression:
    """'gz', 'zst' or '' by the first bytes of a file."""
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), "")


def _unpacked(file: BinaryIO, compression: Compression) -> Iterator[bytes]:
    return _gzip(file) if compression == "gz" else _zstandard(file)


def _gzip(file: BinaryIO) -> Iterator[bytes]:
    try:
        with gzip.open(file) as stream:
            while block := stream.read1(1 << 20):
                yield block
    except EOFError:
        raise Damaged("the compressed data end too early") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise Damaged(f"the compressed data are damaged ({error})") from None


def _zstandard(file: BinaryIO) -> Iterator[bytes]:
    frame, waiting = None, b""
    while packed := waiting or file.read(PACKED):
        frame = frame or zstandard.ZstdDecompressor().decompressobj()
        try:
            block = frame.decompress(packed)
        except zstandard.ZstdError as error:
            raise Damaged(f"the compressed data are damaged ({error})") from None
        waiting = frame.unused_data if frame.eof else b""
        frame = None if frame.eof else frame
        yield block
    if frame:
        raise Damaged("the compressed data end too early")


def _guarded(path: Path, pieces: Iterator[bytes]) -> Iterator[bytes]:
    packed, total = path.stat().st_size, 0
    for piece in pieces:
        total += len(piece)
        if total > LARGEST or total > max(SAFE, LARGEST_RATIO * packed):
            raise DataError(
                f"{path}: its {packed:,} bytes unpack to more than {total:,}, which looks like a decompression bomb; "
                "if you trust the file, unpack it yourself and name the unpacked one"
            )
        yield piece


def _joined(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Pieces put together to blocks; those before an exception are given first."""
    waiting, length = [], 0
    damaged = None
    while True:
        try:
            piece = next(pieces, None)
        except Damaged as error:
            piece, damaged = None, error
        if piece is not None:
            waiting.append(piece)
            length += len(piece)
        if waiting and (piece is None or length >= size):
            yield b"".join(waiting)
            waiting, length = [], 0
        if damaged:
            raise damaged
        if piece is None:
            return
