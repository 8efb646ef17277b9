"""What a batch is scored by in distillation: labels, the teacher's outputs, and where wanted its insides, as one sum."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nlpft.distillation import insides, teacher
from nlpft.distillation.outputs import ROWS, Logits, TopK, compared, mixed, whole
from nlpft.distillation.settings import DistillationConfig, weight_at
from nlpft.distillation.student import projections
from nlpft.errors import ConfigError
from nlpft.models.forward import bare, forward, loss, projection, through_head
from nlpft.models.load import is_sharded
from nlpft.models.projected_loss import Score, projected
from nlpft.types import IGNORE

Batch = dict[str, Tensor]


def build(
    config: DistillationConfig, model: nn.Module, master: nn.Module | None, max_steps: int
) -> Callable[[nn.Module, Batch], Tensor]:
    """step_loss(model, batch), a SUM over the targets, in nats (hidden states: in shares of the teacher's).

    master: the teacher; None where its answers lie in the batches, or it has no weight. Batches say their `step`
    (stored.told). In training: weight * (outputs + hidden * ... + relations * ...) + (1 - weight) * cross-entropy of the labels;
    evaluations measure that cross-entropy alone. Raises ConfigError for what these models cannot do.
    """
    bring = projections(bare(model))
    within = insides.settle(config, model, master, bring, True, "distillation") if master is not None else None

    def step_loss(model: nn.Module, batch: Batch) -> Tensor:
        weight = weight_at(config, int(batch["step"]), max_steps) if model.training else 0.0
        if weight == 0:
            return loss(model, batch) + _nothing(model)
        if master is None:
            return outputs_loss(config, model, batch, _stored(batch), weight)
        if within is None:
            return outputs_loss(config, model, batch, teacher.logits(master, batch), weight)
        with torch.no_grad(), within.of_teacher(master) as its:
            answers = teacher.logits(master, batch)
        with within.of_student(model) as own:
            found = outputs_loss(config, model, batch, answers, weight)
        return found + weight * within.loss(own, its, batch, batch["targets"] != IGNORE)

    return step_loss


def _stored(batch: Batch) -> TopK:
    return TopK(batch["answer_ids"], batch["answer_log_p"], batch["answer_rest"])


def outputs_loss(
    config: DistillationConfig, model: nn.Module, batch: Batch, answers: Logits | TopK, weight: float
) -> Tensor:
    """weight * the loss beside the teacher's outputs + (1 - weight) * that of the labels: the sum over targets, in nats."""
    score = mixed(batch["targets"], compared(answers, config.match, config.temperature), weight)
    return scored(model, batch, score)


def scored(model: nn.Module, batch: Batch, score: Score) -> Tensor:
    """What `score` makes of the logits at the targets of `batch`, a part at a time where the head is a plain projection."""
    if projection(bare(model)) is None:
        return whole(forward(model, batch, batch["positions"]), score)
    return through_head(model, batch, lambda hidden, weight: projected(hidden, weight, score, ROWS))


def check_whole(model: Any) -> None:
    """Raise ConfigError where the matrices for hidden states would lie in parts outside the call that makes them whole."""
    if is_sharded(model) and any(bring is not None for bring in projections(bare(model))):
        raise ConfigError("distillation.projection: not with weights in parts (FSDP2, ZeRO 3); launch ddp.yaml")


def _nothing(model: nn.Module) -> Tensor | float:
    """0, whose gradient reaches the projections: DistributedDataParallel waits for that of every weight that trains."""
    made = [bring for bring in projections(bare(model)) if bring is not None]
    return sum(bring.weight.sum() * 0.0 for bring in made) if made and model.training else 0.0
