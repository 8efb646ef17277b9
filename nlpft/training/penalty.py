"""Penalties on weights, added to gradients before each step: L1, L2, and L2-SP towards where they began (Li et al. 2018)."""

from typing import Any

import torch

from nlpft.training.optimizers import changed


def add_penalties(optimizer: torch.optim.Optimizer, l1: float = 0.0, l2: float = 0.0, l2_sp: float = 0.0) -> None:
    """Have `optimizer` minimise loss + l1 |w| + l2 / 2 |w|^2 + l2_sp / 2 |w - w as it is now|^2.

    l1 and l2 act on matrices, as decay does; l2_sp on every weight that trains, of which it keeps a copy. Gradients are clipped
    before, and the loss that is reported is without penalties. Call it before a checkpoint is loaded: pretrained weights are what
    l2_sp pulls to.
    """
    start = {p: p.detach().clone() for p in changed(optimizer)} if l2_sp else {}

    @torch.no_grad()
    def before_step(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        for weight in changed(optimizer):
            if weight.grad is None:
                continue
            if weight.ndim >= 2 and l1:
                weight.grad.add_(weight.sign(), alpha=l1)
            if weight.ndim >= 2 and l2:
                weight.grad.add_(weight, alpha=l2)
            if l2_sp:
                weight.grad.add_(weight - start[weight], alpha=l2_sp)

    if l1 or l2 or l2_sp:
        optimizer.register_step_pre_hook(before_step)
