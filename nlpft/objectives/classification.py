"""What a head's answer about a whole text costs: cross-entropy of one label, of each of several, or the error of a number."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nlpft.errors import ConfigError
from nlpft.losses import at_least_float32
from nlpft.models.head_forward import logits
from nlpft.models.heads import task_of
from nlpft.types import Task

KINDS = ("single_label_classification", "multi_label_classification", "regression")


@dataclass(frozen=True)
class Config:
    name: Literal["classification"] = "classification"
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: a label's rows weigh rows / (labels * its rows), in training: each label weighs as much as any other."""
    label_smoothing: float = 0.0
    """Share of a target that is spread evenly over the labels, in training (Szegedy et al. 2016)."""
    focal: float = 0.0
    """Exponent of the focal loss (Lin et al. 2017), in training: the loss of a row is scaled by (1 - p) ** focal, p the
    probability of its label; 2 is usual, 0: not at all."""
    error: Literal["mse", "huber"] = "mse"
    """Of a regression: squared error, or Huber's, which beyond 1 grows along a line (1964)."""


def build(config: Config, model: nn.Module) -> Callable[[nn.Module, dict[str, Tensor]], Tensor]:
    task = task_of(model)
    check(config, task)
    weights = label_weights(task) if config.class_weights == "balanced" else None

    def step_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        scores = at_least_float32(logits(model, batch))
        plain = not model.training  # evaluations measure the plain loss
        used = Config(error=config.error) if plain else config
        found = row_losses(used, task, scores, batch["targets"], None if plain else weights)
        if "partner" in batch:
            other = row_losses(used, task, scores, batch["targets"][batch["partner"]], None if plain else weights)
            found = batch["share"] * found + (1 - batch["share"]) * other
        return (found * batch["counted"]).sum()

    return step_loss


def num_targets(batch: dict[str, Tensor]) -> Tensor:
    return torch.count_nonzero(batch["counted"])


def row_losses(config: Config, task: Task, scores: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Loss of each row [rows], in nats (of a regression: in the square of its unit).

    scores: [rows, outputs], float32. targets: as in a batch of `nlpft.data.examples`. weights: [labels]. Of several labels the
    losses are summed over labels.
    """
    if task.kind == "regression":
        error = F.mse_loss if config.error == "mse" else F.huber_loss
        return error(scores[:, 0], targets, reduction="none")
    if task.kind == "multi_label_classification":
        return _several(config, scores, targets, weights)
    found = F.cross_entropy(scores, targets, reduction="none", label_smoothing=config.label_smoothing)
    if config.focal:
        log_p = F.log_softmax(scores, -1).gather(1, targets[:, None])[:, 0]
        found = found * (1 - log_p.exp()) ** config.focal
    return found if weights is None else found * weights.to(scores)[targets]


def _several(config: Config, scores: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Binary cross-entropies, of each label by itself; `weights` are of the rows that have it."""
    wanted = targets * (1 - config.label_smoothing) + config.label_smoothing / 2
    found = F.binary_cross_entropy_with_logits(
        scores, wanted, reduction="none", pos_weight=None if weights is None else weights.to(scores)
    )
    if config.focal:
        p = torch.sigmoid(scores)
        found = found * torch.where(targets > 0, 1 - p, p) ** config.focal
    return found.sum(1)


def label_weights(task: Task) -> Tensor:
    """rows / (labels * rows of the label) for each; of a label without rows 0, which no row asks for."""
    counts = torch.tensor(task.counts, dtype=torch.float32)
    there = (counts > 0).sum()
    return torch.where(counts > 0, counts.sum() / (there * counts.clamp(min=1)), torch.zeros(()))


def check(config: Config, task: Any) -> None:
    """Raise ConfigError for numbers that mean nothing, and settings that the task has no use for."""
    if task.kind not in KINDS:
        raise ConfigError(f"objective.name classification: the data is for {task.kind}; train it by recipes/tag.py")
    if not 0 <= config.label_smoothing < 1:
        raise ConfigError(f"objective.label_smoothing {config.label_smoothing}: a share from 0 to below 1")
    if not config.focal >= 0:
        raise ConfigError(f"objective.focal {config.focal}: an exponent of 0 or more")
    if task.kind == "regression" and (config.class_weights != "none" or config.focal or config.label_smoothing):
        raise ConfigError("objective: a regression has no labels to weigh, focus on or smooth; leave these unset")
    if config.class_weights == "balanced" and not any(task.counts):
        raise ConfigError(
            "objective.class_weights balanced: the dataset does not say how often each label occurs; convert it again"
        )
