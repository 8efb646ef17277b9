"""Optimiser and learning-rate schedule. The rate is a function of the step alone, so there is no scheduler state to lose."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nlpft.errors import ConfigError


@dataclass(frozen=True)
class OptimConfig:
    lr: float = 2e-4
    """Highest learning rate of the schedule."""
    weight_decay: float = 0.0
    """Decoupled weight decay, on matrices; biases and norms never decay."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay rates of the mean and the mean square of gradients."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the rate falls after warm-up: to zero along a cosine, to zero along a line, or not at all."""
    warmup: float = 0.03
    """Steps over which the rate rises from zero: a share of all steps below 1, else a number of steps."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm; 0: not at all."""


SCHEDULES: dict[
    str, Callable[[float], float]
] = {  # share of the steps after warm-up that are done -> factor of the rate
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
    "constant": lambda done: 1.0,
}


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
        "warmup": (config.warmup >= 0, "a share of the steps below 1, or a number of steps"),
        "max_grad_norm": (config.max_grad_norm >= 0, "above 0, or 0 for no clipping"),
    }
    for name, (good, wanted) in rules.items():
        if not good:
            raise ConfigError(f"optim.{name} {getattr(config, name)}: {wanted}")


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019) over the weights that train; matrices decay, vectors do not.

    Raises ConfigError for a rate that could not train anything.
    """
    check(config)
    train = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in train if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in train if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


def learning_rate(config: OptimConfig, max_steps: int) -> Callable[[int], float]:
    """The rate of each optimiser step, counted from 1, in a run of `max_steps`."""
    warmup = math.ceil(config.warmup * max_steps) if config.warmup < 1 else int(config.warmup)
    shape = SCHEDULES[config.schedule]

    def rate(step: int) -> float:
        if step <= warmup:
            return config.lr * step / warmup
        done = (step - 1 - warmup) / max(1, max_steps - warmup)
        return config.lr * shape(min(1.0, done))

    return rate
