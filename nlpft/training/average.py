"""Weight averaging: an exponential moving average of the weights that train (EMA; Polyak & Juditsky 1992).

The averages lie in the optimiser's state, so that whatever saves, loads or shards that has them too.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from nlpft.models.load import resharded
from nlpft.training.optimizers import changed, inner

KEY = "average"


def keep_average(optimizer: torch.optim.Optimizer, decay: float) -> None:
    """After each step: average = decay * average + (1 - decay) * weight.

    It begins as the weight behind the first step that was tried.

    A step that the device skips (`found_inf`) leaves the averages as they are.
    """

    @torch.no_grad()
    def after_step(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        skipped = getattr(optimizer, "found_inf", None)
        share = 1 - decay if skipped is None else (1 - decay) * (1 - skipped)
        for weight in changed(optimizer):
            if weight.grad is None:
                continue
            state = optimizer.state[weight]
            if KEY in state:
                state[KEY].lerp_(weight, share)
            else:  # not before the first step: optimisers take an empty state as a sign to make their own
                state[KEY] = weight.detach().clone()

    optimizer.register_step_post_hook(after_step)


@contextlib.contextmanager
def averaged(optimizer: Any, model: nn.Module) -> Iterator[None]:
    """Within it the weights of `model` are their averages, for evaluating and saving; nothing happens where none are kept.

    optimizer: of those weights; Accelerate's wrapper of it serves too.
    """
    own = inner(optimizer)
    _exchange(own, model)
    try:
        yield
    finally:
        _exchange(own, model)


def _pairs(optimizer: torch.optim.Optimizer) -> list[tuple[Tensor, Tensor]]:
    """Each weight that has an average, and the average."""
    return [(w, optimizer.state[w][KEY]) for w in changed(optimizer) if KEY in optimizer.state.get(w, {})]


@torch.no_grad()
def _exchange(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """In place and one by one: sharded weights stay where they are, and only one more is in memory at a time."""
    resharded(model)  # what a forward pass left whole would go on to be used
    for weight, average in _pairs(optimizer):
        kept = weight.clone()
        weight.copy_(average)
        average.copy_(kept)
