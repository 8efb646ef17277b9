"""Freezing: the last blocks are trained, the rest stays as pretrained (Yosinski et al. 2014)."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from nlpft.errors import ConfigError
from nlpft.models.blocks import blocks


@dataclass(frozen=True)
class Config:
    name: Literal["freeze"] = "freeze"
    train_last: int = 2
    """How many of the last transformer blocks are trained."""
    train_head: bool = False
    """Whether the output projection is trained too; where it is tied to the embeddings, they are with it."""


def apply(model: nn.Module, config: Config) -> nn.Module:
    stack = blocks(model)
    if not 0 <= config.train_last <= len(stack):
        raise ConfigError(f"tuning.train_last {config.train_last}: the model has {len(stack)} blocks")
    if not config.train_last and not config.train_head:
        raise ConfigError("tuning.train_last 0 without tuning.train_head: nothing would be trained")
    model.requires_grad_(False)
    for block in stack[len(stack) - config.train_last :]:
        block.requires_grad_(True)
    if config.train_head:
        model.get_output_embeddings().requires_grad_(True)  # type: ignore[operator]
    return model
