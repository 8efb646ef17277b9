"""What keeps fine-tuning close to what was pretrained, or smooth: noise, dropout, penalties on weights, weight averaging."""

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from nlpft.errors import ConfigError
from nlpft.models.noise import add_neftune, set_dropout
from nlpft.training.average import averaged, keep_average
from nlpft.training.optimizers import inner
from nlpft.training.penalty import add_penalties

__all__ = ["RegularizeConfig", "add_noise", "attach", "averaged", "check"]


@dataclass(frozen=True)
class RegularizeConfig:
    neftune: float = 0.0
    """Noise on the embeddings (Jain et al. 2023): alpha, 5 to 15 is usual; 0: none."""
    dropout: float | None = None
    """Share that the model's own dropouts drop; not set: as it was pretrained. lora's is tuning.dropout."""
    l1: float = 0.0
    """Factor of the sum of absolute values of the matrices that train, added to the loss."""
    l2: float = 0.0
    """Factor of half the sum of squares of the matrices that train, added to the loss; decoupled: optim.weight_decay."""
    l2_sp: float = 0.0
    """Factor of half the squared distance of all weights that train from where they began (L2-SP, Li et al. 2018)."""
    average: float = 0.0
    """Decay of an exponential moving average of the weights, which then is evaluated and saved; 0.999 is usual, 0: none."""


def check(config: RegularizeConfig) -> None:
    """Raise ConfigError for settings that mean nothing."""
    for name in ("neftune", "l1", "l2", "l2_sp"):
        if not 0 <= getattr(config, name) < math.inf:
            raise ConfigError(f"regularize.{name} {getattr(config, name)}: 0 or more")
    if config.dropout is not None and not 0 <= config.dropout < 1:
        raise ConfigError(f"regularize.dropout {config.dropout}: a share from 0 to below 1")
    if not 0 <= config.average < 1:
        raise ConfigError(f"regularize.average {config.average}: a decay from 0 to below 1")


def add_noise(model: nn.Module, config: RegularizeConfig) -> nn.Module:
    """`model` as it was loaded, in place, with the noise and dropout of `config` while it trains."""
    check(config)
    if config.dropout is not None:
        set_dropout(model, config.dropout)
    if config.neftune:
        add_neftune(model, config.neftune)
    return model


def attach(optimizer: Any, config: RegularizeConfig) -> None:
    """Have `optimizer` (or Accelerate's wrapper of it) penalise and average the weights it trains, as `config` says.

    Call it when models are sharded and checkpoints are not loaded yet.
    """
    check(config)
    own = inner(optimizer)
    add_penalties(own, config.l1, config.l2, config.l2_sp)
    if config.average:
        keep_average(own, config.average)
