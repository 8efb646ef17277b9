"""Next-token cross-entropy on the learnt tokens."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from nlpft import losses
from nlpft.data.loader import Corrupt
from nlpft.data.pack import pack as PLAN
from nlpft.errors import ConfigError
from nlpft.models.forward import loss

__all__ = ["KIND", "PLAN", "Config", "build", "corruption", "num_targets"]

KIND = "decoder"


@dataclass(frozen=True)
class Config:
    name: Literal["causal_lm"] = "causal_lm"
    label_smoothing: float = 0.0
    """Share of each target that is spread evenly over the vocabulary, in training (Szegedy et al. 2016); 0.1 is usual.
    Evaluations measure the plain loss."""


def build(config: Config, model: nn.Module) -> Callable[[nn.Module, dict[str, Tensor]], Tensor]:
    if not 0 <= config.label_smoothing < 1:
        raise ConfigError(f"objective.label_smoothing {config.label_smoothing}: a share from 0 to below 1")

    def step_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return loss(model, batch, config.label_smoothing if model.training else 0.0)

    return step_loss


def num_targets(batch: dict[str, Tensor]) -> Tensor:
    return losses.num_targets(batch["labels"])


def corruption(config: Config, model: Any, tokenizer: Any) -> Corrupt:
    """Nothing is hidden: what comes next is hidden by the attention."""
    return lambda batch, rows, place: batch
