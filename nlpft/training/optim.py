"""Optimiser and learning-rate schedule. The rate is a function of the step alone, so there is no scheduler state to lose."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nlpft.errors import ConfigError
from nlpft.training.groups import parameter_groups, parse_pattern
from nlpft.training.optimizers import OPTIMIZERS, Numbers
from nlpft.training.schedules import SCHEDULES, Span


@dataclass(frozen=True)
class OptimConfig:
    name: Literal["sgd", "momentum", "adam", "adamw", "rmsprop", "adagrad", "adamw_8bit", "muon"] = "adamw"
    """The optimiser; muon is Muon for the matrices of blocks and AdamW for the rest, at AdamW's rates."""
    lr: float = 2e-4
    """Highest learning rate of the schedule."""
    weight_decay: float = 0.0
    """Weight decay, on matrices; biases and norms never decay. Decoupled in adamw, adamw_8bit and muon, else in the gradient."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the mean and the mean square of gradients, in the Adams."""
    momentum: float = 0.9
    """Of momentum and muon."""
    layer_decay: float = 1.0
    """Factor of the rate from each block to the one below it: the head has the full rate, the embeddings the lowest."""
    lr_of: tuple[str, ...] = ()
    """PATTERN=FACTOR, for rates of their own: weights whose name matches, as in "*lm_head*=10"; the first match counts."""
    schedule: Literal["cosine", "linear", "constant", "cosine_restarts", "exponential", "inverse_sqrt", "wsd"] = (
        "cosine"
    )
    """How the rate goes after warm-up: to zero along a cosine, to zero along a line, not at all, and so on."""
    warmup: float = 0.03
    """Steps over which the rate rises from zero: a share of all steps below 1, else a number of steps."""
    cycles: int = 4
    """cosine_restarts: how many cosines there are."""
    end: float = 0.01
    """exponential: factor of the highest rate at the end."""
    cooldown: float = 0.2
    """wsd: share of the steps after warm-up, at the end, in which the rate falls to zero."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm; 0: not at all."""


def trainable_in_float32(model: nn.Module) -> nn.Module:
    """The same model with float32 masters of the weights that train, in place.

    A bfloat16 weight has 8 bits: most steps of AdamW at usual rates would round to nothing. Frozen weights stay as they are, and
    autocast multiplies in bfloat16 (adapters too). What embeddings hand on keeps its type, and so does all that is added to it.
    """
    for module in model.modules():
        for weight in module.parameters(recurse=False):
            if weight.requires_grad and weight.dtype != torch.float32:
                if isinstance(module, nn.Embedding):
                    module.register_forward_hook(_to(weight.dtype))
                weight.data = weight.data.float()
    return model


def _to(dtype: torch.dtype) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    return lambda module, inputs, output: output.to(dtype)


def check(config: OptimConfig) -> None:
    """Raise ConfigError for settings that could not train anything, or would train it backwards."""
    rules = {
        "lr": (0 < config.lr < math.inf, "a learning rate is above 0"),
        "weight_decay": (config.weight_decay >= 0, "0 or more"),
        "betas": (all(0 <= beta < 1 for beta in config.betas), "two numbers from 0 to below 1"),
        "momentum": (0 <= config.momentum < 1, "from 0 to below 1"),
        "layer_decay": (0 < config.layer_decay <= 1, "above 0, and 1 for one rate at all depths"),
        "warmup": (config.warmup >= 0, "a share of the steps below 1, or a number of steps"),
        "cycles": (config.cycles >= 1, "at least 1"),
        "end": (0 < config.end <= 1, "a factor above 0, at most 1"),
        "cooldown": (0 < config.cooldown <= 1, "a share above 0, at most 1"),
        "max_grad_norm": (config.max_grad_norm >= 0, "above 0, or 0 for no clipping"),
    }
    for name, (good, wanted) in rules.items():
        if not good:
            raise ConfigError(f"optim.{name} {getattr(config, name)}: {wanted}")
    for text in config.lr_of:
        parse_pattern(text)


def build_optimizer(
    model: nn.Module, config: OptimConfig, factors: Mapping[str, float] | None = None
) -> torch.optim.Optimizer:
    """The optimiser over the weights of `model` that train; `groups.describe` says what it does with which.

    factors: by parameter name, of rates that the tuning method wants to differ. Each group has its factor as `scale`, by which
    the loop multiplies the rate of the step. Raises ConfigError for settings that could not train anything.
    """
    check(config)
    groups = parameter_groups(model, config.weight_decay, config.layer_decay, config.lr_of, factors)
    return OPTIMIZERS[config.name](groups, Numbers(config.lr, config.momentum, config.betas))


def learning_rate(config: OptimConfig, max_steps: int) -> Callable[[int], float]:
    """The rate of each optimiser step, counted from 1, in a run of `max_steps`.

    Raises ConfigError for a warm-up, or cycles, that the run is too short for.
    """
    warmup = math.ceil(config.warmup * max_steps) if config.warmup < 1 else int(config.warmup)
    if config.warmup >= 1 and warmup >= max_steps:
        raise ConfigError(f"optim.warmup {warmup}: the run has {max_steps} steps; take fewer, or a share below 1")
    span = Span(warmup, max(1, max_steps - warmup), config.cycles, config.end, config.cooldown)
    if config.schedule == "cosine_restarts" and config.cycles > span.steps:
        raise ConfigError(f"optim.cycles {config.cycles}: the run has {span.steps} steps after warm-up; take fewer")
    shape = SCHEDULES[config.schedule]

    def rate(step: int) -> float:
        if step <= warmup:
            return config.lr * step / warmup
        return config.lr * shape(min(1.0, (step - 1 - warmup) / span.steps), span)

    return rate
