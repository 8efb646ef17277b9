"""What of a pretrained network is kept, and what is trained, as named dimensions of a search.

keep.03               1: block 3 (from 0) keeps its pretrained weights fixed; 0: they train. keep.embeddings likewise
keep.03.attention     the same for a part of a block: attention, mlp, norms
rate.03               factor of the learning rate of a block's weights that train
rank.03               rank of LoRA's updates in a block; 0: none. rank.03.attention likewise, of a part
blocks                how many of the blocks are kept at all, from below; the others are left out of the network
transplant.03         1: the block's weights are taken from the source model; 0: they stay
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from nlpft.errors import ConfigError
from nlpft.samplers._dimensions import Point, Space

PARTS = ("attention", "mlp", "norms")
BITS = (0, 1)


@dataclass(frozen=True)
class SpaceConfig:
    keep: Literal["none", "trained", "blocks", "parts"] = "blocks"
    """What has a bit of its own that says whether it stays as it was pretrained: each block, or its attention, MLP and norms.
    none: no bits, all stays (for ranks). trained: no bits, all blocks train (for least_blocks, transplant, rates)."""
    embeddings: bool = True
    """Whether the embeddings have a bit too; else they are kept."""
    rates: float = 1.0
    """Highest factor of a block's learning rate, and one over it is the lowest; 1: all blocks have one rate."""
    ranks: tuple[int, ...] = ()
    """Ranks of LoRA's updates that a block may have, 0 among them for none; in place of `keep`."""
    rank_parts: bool = False
    """Whether attention and MLP of a block have ranks of their own: which modules are targets is then searched too."""
    least_blocks: int = 0
    """Least number of blocks that are kept in the network; 0: all are."""
    transplant: bool = False
    """Whether each block has a bit that says if its weights are taken from the source model."""


def space_of(config: SpaceConfig, blocks: int) -> Space:
    """The dimensions of `config` for a network of `blocks` blocks. Raises ConfigError for settings that contradict each other."""
    check(config, blocks)
    places = [f"{number:02}" for number in range(blocks)]
    found: Space = {}
    if config.ranks:
        targets = [f".{part}" for part in PARTS[:2]] if config.rank_parts else [""]
        names = [f"rank.{place}{target}" for place in places for target in targets]
        found |= {name: CategoricalDistribution(config.ranks) for name in names}
    else:
        found |= _masks(config, places)
    if config.rates != 1:
        reach = FloatDistribution(1 / config.rates, config.rates, log=True)
        found |= {f"rate.{place}": reach for place in places}
    if config.least_blocks:
        found["blocks"] = IntDistribution(config.least_blocks, blocks)
    if config.transplant:
        found |= {f"transplant.{place}": CategoricalDistribution(BITS) for place in places}
    return found


def check(config: SpaceConfig, blocks: int) -> None:
    """Raise ConfigError for settings that contradict each other, or the network."""
    if config.ranks and config.keep != "none":
        raise ConfigError("space.ranks: LoRA trains no pretrained weight; set space.keep none beside it")
    if any(rank < 0 for rank in config.ranks) or len(set(config.ranks)) < len(config.ranks):
        raise ConfigError(f"space.ranks {config.ranks}: each once, 0 or more")
    if not config.rates >= 1:
        raise ConfigError(f"space.rates {config.rates}: a factor of 1 or more")
    if not 0 <= config.least_blocks <= blocks:
        raise ConfigError(f"space.least_blocks {config.least_blocks}: the model has {blocks} blocks")


def canonical(point: Point) -> Point:
    """What of a candidate decides the network and its training: equal for candidates that are so in all but their values.

    Without what is said of blocks that are left out, and the rates of blocks of which nothing trains.
    """
    count = point.get("blocks", math.inf)
    found = {name: value for name, value in point.items() if _number(name) < count}
    trained = {_number(name) for name, value in found.items() if _trains(name, value)}
    return {name: value for name, value in found.items() if not name.startswith("rate.") or _number(name) in trained}


def _number(name: str) -> float:
    """Of the block that a dimension speaks of; -1 where it speaks of none."""
    place = name.split(".")[1] if "." in name else ""
    return int(place) if place.isdigit() else -1


def _trains(name: str, value: Any) -> bool:
    """Whether a dimension's value lets something of its block train."""
    return (name.startswith("keep.") and not value) or (name.startswith("rank.") and value > 0)


def mask(point: Point) -> str:
    """The bits of a candidate as a string, in the order of their names: 1 is kept, 0 is trained."""
    return "".join(str(point[name]) for name in sorted(point) if name.startswith("keep."))


def described(point: Point) -> str:
    """A candidate in one line: its mask, then what else it says."""
    others = [
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in sorted(point.items())
        if not name.startswith("keep.")
    ]
    return " ".join([mask(point), *others]).strip()


def _masks(config: SpaceConfig, places: list[str]) -> Space:
    if config.keep == "none":
        return {}
    parts = [f".{part}" for part in PARTS] if config.keep == "parts" else [""]
    names = [f"keep.{place}{part}" for place in places for part in parts]
    bits = CategoricalDistribution(BITS[:1] if config.keep == "trained" else BITS)
    return dict.fromkeys([*names, *(["keep.embeddings"] * config.embeddings)], bits)
