"""Weights in safetensors files (github.com/huggingface/safetensors), read and written one tensor at a time.

safetensors' own `save_file` wants a whole file's tensors in memory at once, and a reader that stays open keeps what it has read
mapped. Here neither a file nor a model is ever held: only the tensor at hand is.
"""

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nlpft.errors import ModelError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
TYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
BLOCK = 2**24  # elements that are turned into bytes at once


class Layout(NamedTuple):
    """What a tensor in a file is."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def index(folder: Path) -> dict[str, str]:
    """The file of each tensor of the model in `folder`; empty where its weights are no safetensors.

    Raises ModelError where a file is missing or broken.
    """
    path = folder / INDEX
    if path.is_file():
        try:
            files = dict(json.loads(path.read_text(encoding="utf-8"))["weight_map"])
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{path}: broken ({type(error).__name__}: {error}); was it downloaded whole?") from error
        for file in sorted(set(files.values())):
            check_holds(folder / file, {name for name, where in files.items() if where == file})
        return files
    return dict.fromkeys(names(folder / SINGLE), SINGLE) if (folder / SINGLE).is_file() else {}


def names(file: Path) -> list[str]:
    """Names of the tensors in a file. Raises ModelError where it is missing or broken."""
    with _opened(file) as weights:
        return list(weights.keys())


def check_holds(file: Path, wanted: set[str]) -> None:
    """Raise ModelError where a file lacks tensors that its index names."""
    missing = sorted(wanted - set(names(file)))
    if missing:
        raise ModelError(f"{file}: lacks {missing[0]}, which {INDEX} says is in it; was the model downloaded whole?")


def read(file: Path, name: str) -> Tensor:
    """One tensor, on the CPU, in the type it is stored in; nothing else of the file stays in memory."""
    with _opened(file) as weights:
        return weights.get_tensor(name).clone()


def shape(file: Path, name: str) -> tuple[int, ...]:
    """Shape of a tensor, without reading it."""
    with _opened(file) as weights:
        return tuple(weights.get_slice(name).get_shape())


def layout(file: Path, name: str) -> Layout:
    """Type and shape of a tensor, without reading it. Raises ModelError for a type that torch computes nothing with."""
    with _opened(file) as weights:
        found = weights.get_slice(name)
        known = {word: dtype for dtype, word in TYPES.items()}
        if found.get_dtype() not in known:
            raise ModelError(f"{file}: {name} is stored as {found.get_dtype()}; known are {', '.join(known)}")
        return Layout(known[found.get_dtype()], tuple(found.get_shape()))


def write(file: Path, layouts: Mapping[str, Layout], tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Write `tensors`, which come in the order of `layouts`, one after the other, each in its layout's type."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, layout in layouts.items():
        begin, end = end, end + layout.size
        header[name] = {"dtype": TYPES[layout.dtype], "shape": list(layout.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that the data is aligned
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for (name, tensor), (expected, layout) in zip(tensors, layouts.items(), strict=True):
            assert (name, tuple(tensor.shape)) == (expected, layout.shape), (
                f"{name} {tuple(tensor.shape)} for {expected}"
            )
            out.writelines(_bytes(tensor, layout.dtype))


def write_index(folder: Path, files: Mapping[str, str]) -> None:
    """Write the index of a model of several files; of one file that is all of it, none is needed."""
    if set(files.values()) == {SINGLE}:
        return
    total = sum(_tensor_bytes(folder / file) for file in set(files.values()))
    text = json.dumps({"metadata": {"total_size": total}, "weight_map": dict(sorted(files.items()))}, indent=2)
    (folder / INDEX).write_text(text + "\n", encoding="utf-8")


def _tensor_bytes(file: Path) -> int:
    """Bytes of all tensors in a file: what stands behind its header."""
    with file.open("rb") as read:
        (header,) = struct.unpack("<Q", read.read(8))
    return file.stat().st_size - 8 - header


def _bytes(tensor: Tensor, dtype: torch.dtype) -> Iterator[memoryview]:
    for block in tensor.detach().reshape(-1).split(BLOCK):
        yield memoryview(block.to(dtype).contiguous().view(torch.uint8).numpy())


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, "pt") as weights:
            yield weights
    except FileNotFoundError as error:
        raise ModelError(f"{file}: is not there; was the model downloaded whole?") from error
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file}: broken ({error}); was it copied or downloaded whole?") from error
