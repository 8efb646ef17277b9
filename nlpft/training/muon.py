"""Muon (Jordan et al. 2024) for the matrices of blocks, AdamW for the rest, as one optimiser with one state."""

from collections.abc import Callable
from typing import Any

import torch

from nlpft.errors import ConfigError


class MuonWithAdamW(torch.optim.Optimizer):
    """Groups with `hidden` go to torch's Muon, the others to its AdamW; both keep their state here.

    The update of a matrix is as large as AdamW's would be (Liu et al. 2025), so rates and decays are those of AdamW.
    """

    def __init__(
        self, groups: list[dict[str, Any]], lr: float, momentum: float, betas: tuple[float, float], eps: float
    ) -> None:
        hidden, others = ([g for g in groups if g["hidden"] == kind] for kind in (True, False))
        self.parts: list[tuple[bool, torch.optim.Optimizer]] = []
        if hidden:
            muon = torch.optim.Muon(hidden, lr=lr, momentum=momentum, adjust_lr_fn="match_rms_adamw")
            self.parts.append((True, muon))
        if others:
            self.parts.append((False, torch.optim.AdamW(others, lr=lr, betas=betas, eps=eps, fused=True)))
        super().__init__([group for _, part in self.parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        for hidden, part in self.parts:
            part.param_groups = [group for group in self.param_groups if group["hidden"] == hidden]
            part.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._share()  # who loads a state or shards a model puts other groups in place
        for _, part in self.parts:
            part.step()
        return loss


def muon(
    groups: list[dict[str, Any]], lr: float, momentum: float, betas: tuple[float, float], eps: float
) -> MuonWithAdamW:
    """The optimiser; raises ConfigError where torch has no Muon."""
    if not hasattr(torch.optim, "Muon"):
        raise ConfigError(f"optim.name muon: torch {torch.__version__} has none; take adamw, or torch 2.9 or newer")
    return MuonWithAdamW(groups, lr, momentum, betas, eps)
