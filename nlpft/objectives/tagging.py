"""Cross-entropy of the tag of each word, read at its first piece (Devlin et al. 2019)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nlpft.errors import ConfigError
from nlpft.losses import at_least_float32
from nlpft.models.head_forward import logits
from nlpft.models.heads import task_of
from nlpft.objectives.classification import label_weights


@dataclass(frozen=True)
class Config:
    name: Literal["tagging"] = "tagging"
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: a tag's words weigh words / (tags * its words), in training: each tag weighs as much as any other."""
    label_smoothing: float = 0.0
    """Share of a target that is spread evenly over the tags, in training (Szegedy et al. 2016)."""


def build(config: Config, model: nn.Module) -> Callable[[nn.Module, dict[str, Tensor]], Tensor]:
    task = task_of(model)
    if task.kind != "tagging":
        raise ConfigError(f"objective.name tagging: the data is for {task.kind}; train it by recipes/classify.py")
    if not 0 <= config.label_smoothing < 1:
        raise ConfigError(f"objective.label_smoothing {config.label_smoothing}: a share from 0 to below 1")
    weights = label_weights(task) if config.class_weights == "balanced" else None

    def step_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        scores, targets = at_least_float32(logits(model, batch)), batch["targets"]
        if not model.training:  # evaluations measure the plain loss
            return (F.cross_entropy(scores, targets, reduction="none") * batch["counted"]).sum()
        found = F.cross_entropy(scores, targets, reduction="none", label_smoothing=config.label_smoothing)
        found = found if weights is None else found * weights.to(scores)[targets]
        return (found * batch["counted"]).sum()

    return step_loss


def num_targets(batch: dict[str, Tensor]) -> Tensor:
    return torch.count_nonzero(batch["counted"])
