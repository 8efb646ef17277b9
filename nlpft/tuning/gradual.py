"""Gradual unfreezing: training begins with the last block and reaches one more at a time (ULMFiT, Howard & Ruder 2018)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn

from nlpft.errors import ConfigError
from nlpft.models.blocks import blocks, depths


@dataclass(frozen=True)
class Config:
    name: Literal["gradual"] = "gradual"
    every: float | None = None
    """Steps from one block to the next: a share of the run below 1, else a number of steps; not set: as many for each.
    The embeddings come last, with a head that is tied to them; a head of its own trains from the start."""


def apply(model: nn.Module, config: Config) -> nn.Module:
    if config.every is not None and not config.every > 0:
        raise ConfigError(f"tuning.every {config.every}: a share of the run below 1, or a number of steps")
    return model.requires_grad_(True)


def hold(model: nn.Module, config: Config, max_steps: int) -> Callable[[int], None]:
    """What sets to None the gradients of the weights that are not reached in a step: a function of the step alone.

    All weights have gradients, so that processes which average them agree on which there are; what has none is passed over by
    every optimiser, moments and decay included. Raises ConfigError for a run too short to reach the embeddings.
    """
    count = len(blocks(model))
    if config.every is None:
        every = max(1, (max_steps - 1) // count)
    else:
        every = max(1, math.ceil(config.every * max_steps)) if config.every < 1 else int(config.every)
    if every * count >= max_steps:
        raise ConfigError(
            f"tuning.every {config.every or every}: {count} blocks one every {every} steps, then the embeddings, take "
            f"{every * count + 1} steps, the run has {max_steps}; lower it (a share below {1 / (count + 1):.3g})"
        )
    depth = depths(model)
    placed = [(depth[name], weight) for name, weight in model.named_parameters()]

    def hold_back(step: int) -> None:
        lowest = count - (step - 1) // every
        for place, weight in placed:
            if place < lowest:
                weight.grad = None

    return hold_back
