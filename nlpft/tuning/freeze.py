"""Freezing: chosen blocks or weights are trained, the rest stays as pretrained (Yosinski et al. 2014)."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from nlpft.errors import ConfigError
from nlpft.models.blocks import blocks, depths
from nlpft.tuning._parts import head_names, matching, train_only


@dataclass(frozen=True)
class Config:
    name: Literal["freeze"] = "freeze"
    train_last: int = 2
    """How many of the last transformer blocks are trained."""
    train_first: int = 0
    """How many of the first blocks are trained."""
    train_head: bool = False
    """Whether the output projection is trained too; where it is tied to the embeddings, they are with it."""
    patterns: tuple[str, ...] = ()
    """Names of more weights that are trained, as a shell matches: "*norm*" "model.layers.3.*"; with train_last 0, of all."""


def apply(model: nn.Module, config: Config) -> nn.Module:
    count = len(blocks(model))
    for key in ("train_last", "train_first"):
        if not 0 <= getattr(config, key) <= count:
            raise ConfigError(f"tuning.{key} {getattr(config, key)}: the model has {count} blocks")
    first, last = range(1, config.train_first + 1), range(count - config.train_last + 1, count + 1)
    chosen = {name for name, depth in depths(model).items() if depth in first or depth in last}
    chosen |= matching(model, config.patterns)
    if config.train_head:
        chosen |= head_names(model)
    if not chosen:
        raise ConfigError(
            "tuning.train_last 0 without train_first, train_head or patterns of tuning: nothing would be trained"
        )
    return train_only(model, chosen.__contains__)
