"""A tuning method's part in a run: the loaded model with what trains, rates of its own, and what is held back in a step."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from nlpft.config import module_of
from nlpft.models.load import load_model, weight_type


def load(name: str, dtype: str, tuning: Any, prepare: Callable[[nn.Module], nn.Module] = lambda model: model) -> Any:
    """The causal LM called `name`, loaded and set up as the settings `tuning` say; `prepare` comes before anything is added."""
    method = module_of(tuning)
    options = method.load_options(tuning, weight_type(dtype)) if hasattr(method, "load_options") else {}
    return method.apply(prepare(load_model(name, dtype, **options)), tuning)


def rate_factors(model: nn.Module, tuning: Any) -> dict[str, float]:
    """Factors of learning rates that the method wants to differ, by name of parameter."""
    method = module_of(tuning)
    return method.rate_factors(model, tuning) if hasattr(method, "rate_factors") else {}


def hold(model: nn.Module, tuning: Any, max_steps: int) -> Callable[[int], None]:
    """What is to be called with the step after backward, before gradients are clipped; does nothing for most methods.

    model: unwrapped.
    """
    method = module_of(tuning)
    return method.hold(model, tuning, max_steps) if hasattr(method, "hold") else lambda step: None


def trained(model: nn.Module) -> tuple[int, int]:
    """How many numbers train, and how many there are; weights in 4 bits count as what they stand for."""
    sizes = [(_numbers(p), p.requires_grad) for p in model.parameters()]
    return sum(n for n, trains in sizes if trains), sum(n for n, _ in sizes)


def _numbers(weight: torch.Tensor) -> int:
    state = getattr(weight, "quant_state", None)
    return state.shape.numel() if state is not None else weight.numel()
