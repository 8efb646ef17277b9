"""Whole weights in another type of numbers, tensor by tensor, in files of the same layout."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nlpft.errors import ModelError
from nlpft.models import shards
from nlpft.models.load import DTYPES, load_model


def write(folder: Path, output: Path, dtype: str) -> set[str]:
    """Write the weights in `folder` as `dtype`, and a config.json that says so; names of the files that this stands for.

    Raises ModelError for weights in few bits, and where numbers are too large for `dtype`.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if "quantization_config" in config:
        raise ModelError(f"{folder}: its weights are stored in few bits, which is no matter of --dtype; leave it out")
    files = shards.index(folder)
    if files:
        for file in sorted(set(files.values())):
            _write_file(folder / file, output / file, DTYPES[dtype])
        shards.write_index(output, files)
    else:
        load_model(str(folder), dtype).save_pretrained(output)  # type: ignore[operator]
    text = json.dumps(_saying(config, dtype), indent=2, ensure_ascii=False)
    (output / "config.json").write_text(text + "\n", encoding="utf-8")
    old = {path.name for path in folder.iterdir() if path.suffix in (".safetensors", ".bin")}
    return {*old, shards.INDEX, "pytorch_model.bin.index.json", "config.json"}


def _write_file(file: Path, output: Path, dtype: torch.dtype) -> None:
    before = {name: shards.layout(file, name) for name in shards.names(file)}
    after = {
        name: layout._replace(dtype=dtype) if layout.dtype.is_floating_point else layout
        for name, layout in before.items()
    }
    shards.write(output, after, _tensors(file, after))


def _tensors(file: Path, layouts: dict[str, shards.Layout]) -> Iterator[tuple[str, Tensor]]:
    for name, layout in layouts.items():
        tensor = shards.read(file, name)
        largest = torch.finfo(layout.dtype).max if layout.dtype.is_floating_point else None
        if largest and tensor.numel() and tensor.abs().max() > largest:
            raise ModelError(
                f"{file}: {name} has numbers above {largest:.0f}, too large for that --dtype; take bfloat16"
            )
        yield name, tensor


def _saying(config: Any, dtype: str) -> Any:
    """A configuration, with those of its parts, that names the type `dtype`."""
    if not isinstance(config, dict):
        return config
    found = {key: _saying(value, dtype) for key, value in config.items()}
    return found | {key: dtype for key in ("dtype", "torch_dtype") if isinstance(found.get(key), str)}
