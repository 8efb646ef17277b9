"""How many parameters of a run train, by transformer block: from its parameters.json, or from the adapter it saved."""

import json
import re
from math import prod
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from nlpft.errors import DataError
from nlpft.rundir import RunDir

ADAPTER = "adapter_model.safetensors"
EMBEDDINGS, BEHIND = "embeddings", "head"


class Block(NamedTuple):
    """A transformer block, or what lies before or behind all of them."""

    name: str
    trains: int  # parameters
    all: int | None  # None where only those that train are known


def by_block(run: RunDir) -> list[Block]:
    """Of the model of `run`, from its embeddings to its head; none where it does not say. Raises DataError for a damaged file."""
    if (path := run.parameters).is_file():
        return _recorded(path)
    if (path := run.model / ADAPTER).is_file():
        return _of_adapter(sizes(path))
    return []


def sizes(path: Path) -> dict[str, int]:
    """Numbers in each tensor of a safetensors file, by its name, from its header. Raises DataError where it is none."""
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: prod(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: not a whole safetensors file ({error}); was it copied to its end?") from error


def _recorded(path: Path) -> list[Block]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [Block(str(name), int(said["trains"]), int(said["all"])) for name, said in found.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: damaged ({error}); delete it, the page says then that it is missing") from error


def _of_adapter(numbers: dict[str, int]) -> list[Block]:
    """Blocks in their order; the first number in a weight's name is that of its block."""
    found: dict[tuple[int, str], int] = {}
    for name, size in numbers.items():
        block = re.search(r"\.(\d+)\.", name)
        at = int(block[1]) if block else -1 if "embed" in name else 1 << 30
        key = (at, f"{at + 1}" if block else EMBEDDINGS if at < 0 else BEHIND)
        found[key] = found.get(key, 0) + size
    return [Block(name, size, None) for (_, name), size in sorted(found.items())]
