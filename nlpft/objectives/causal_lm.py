"""Next-token cross-entropy on the learnt tokens."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from nlpft import losses
from nlpft.models.forward import forward


@dataclass(frozen=True)
class Config:
    name: Literal["causal_lm"] = "causal_lm"


def build(config: Config, model: nn.Module) -> Callable[[nn.Module, dict[str, Tensor]], Tensor]:
    def step_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        positions, targets = losses.next_tokens(batch["labels"])
        return losses.causal_lm_loss(forward(model, batch, positions), targets)

    return step_loss


def num_targets(batch: dict[str, Tensor]) -> Tensor:
    return losses.num_targets(batch["labels"])
