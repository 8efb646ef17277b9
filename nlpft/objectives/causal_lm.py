"""Next-token cross-entropy on the learnt tokens."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from nlpft import losses
from nlpft.models.forward import loss


@dataclass(frozen=True)
class Config:
    name: Literal["causal_lm"] = "causal_lm"


def build(config: Config, model: nn.Module) -> Callable[[nn.Module, dict[str, Tensor]], Tensor]:
    return loss


def num_targets(batch: dict[str, Tensor]) -> Tensor:
    return losses.num_targets(batch["labels"])
