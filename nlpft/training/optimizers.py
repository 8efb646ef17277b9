"""Optimisers by name: torch's own, fused wherever torch offers that, bitsandbytes' 8-bit AdamW, and Muon."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from nlpft.errors import ConfigError
from nlpft.training.muon import muon


class Numbers(NamedTuple):
    """What optimisers take besides their groups."""

    lr: float
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


Groups = list[dict[str, Any]]
# Where decay is not decoupled (all but the AdamWs and Muon) torch adds it to the gradient.
OPTIMIZERS: dict[str, Callable[[Groups, Numbers], torch.optim.Optimizer]] = {
    "sgd": lambda groups, n: torch.optim.SGD(groups, n.lr, fused=True),
    # Not fused: torch's kernel leaves a buffer unset where it skips the first step, and takes no group with and without buffers.
    "momentum": lambda groups, n: torch.optim.SGD(groups, n.lr, n.momentum, foreach=True),
    "adam": lambda groups, n: torch.optim.Adam(groups, n.lr, n.betas, n.eps, fused=True),
    "adamw": lambda groups, n: torch.optim.AdamW(groups, n.lr, n.betas, n.eps, fused=True),
    "rmsprop": lambda groups, n: torch.optim.RMSprop(groups, n.lr, eps=n.eps),
    "adagrad": lambda groups, n: torch.optim.Adagrad(groups, n.lr),  # torch fuses it on the CPU only
    "adamw_8bit": lambda groups, n: adamw_8bit(groups, n),
    "muon": lambda groups, n: muon(groups, n.lr, n.momentum, n.betas, n.eps),
}


def adamw_8bit(groups: Groups, numbers: Numbers) -> torch.optim.Optimizer:
    """AdamW with moments in 8 bits, by blocks (Dettmers et al. 2022); raises ConfigError without bitsandbytes."""
    if find_spec("bitsandbytes") is None:
        raise ConfigError('optim.name adamw_8bit needs bitsandbytes: pip install "nlpft[qlora]"')
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(groups, lr=numbers.lr, betas=numbers.betas, eps=numbers.eps)


def inner(optimizer: Any) -> Any:
    """torch's own optimiser, where Accelerate has wrapped it."""
    return getattr(optimizer, "optimizer", optimizer)


def changed(optimizer: Any) -> list[Tensor]:
    """The weights that `optimizer` changes, in the order of its groups."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def skips_on_device(optimizer: Any) -> bool:
    """Whether `optimizer` leaves its weights alone where its `found_inf` is set: torch's fused kernels do.

    With all others, and for sharded weights, the host must look at the gradient before it calls `step`.
    """
    own = inner(optimizer)
    # What GradScaler asks for; torch has no public name for it.
    supported = getattr(own, "_step_supports_amp_scaling", False)
    sharded = any(isinstance(p, DTensor) for p in changed(own))
    return bool(supported) and all(group.get("fused") for group in own.param_groups) and not sharded
