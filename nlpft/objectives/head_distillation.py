"""A head learns from a teacher's head besides the labels (Hinton et al. 2015), for recipes classify and tag."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nlpft.data.example_batch import batch_of
from nlpft.distillation import insides, states
from nlpft.distillation.settings import check_shares
from nlpft.distillation.teacher import check_vocabulary, resting
from nlpft.errors import ConfigError
from nlpft.losses import at_least_float32
from nlpft.models import attention, kinds
from nlpft.models.blocks import blocks
from nlpft.models.compute import ComputeConfig, prepare
from nlpft.models.head_forward import choose, logits
from nlpft.models.heads import task_of, trained_head, with_head
from nlpft.models.load import device, weight_type
from nlpft.objectives import classification
from nlpft.objectives.classification import row_losses
from nlpft.rundir import model_folder
from nlpft.types import Layout, Task

PLAIN = classification.Config()


@dataclass(frozen=True)
class Config:
    name: Literal["head_distillation"] = "head_distillation"
    teacher: str = ""
    """Model with a head for the same labels: the folder of a run of classify or tag, or its model."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the teacher's weights; auto: float32 on the CPU, bfloat16 on a GPU."""
    match: Literal["soft", "hard"] = "soft"
    """What of the answers is learnt: their probabilities, or the likeliest label alone; of a regression the number."""
    temperature: float = 2.0
    """Divides the logits of both where probabilities are learnt; their loss is multiplied by its square."""
    weight: float = 0.5
    """Share of the teacher in the loss, in training, from 0 to 1 (no labels); evaluations measure the labels alone."""
    hidden: float = 0.0
    """Factor of the loss on the hidden states behind each block at the tokens that the head reads; both widths must be equal."""
    relations: float = 0.0
    """Factor of the loss on the relations among queries, keys and values of the last block (MiniLMv2, Wang et al. 2021) at the
    tokens that the head reads."""
    relation_heads: int | None = None
    """Parts that queries, keys and values are cut into for relations; not set: the most that both models' heads allow."""


def build(config: Config, model: nn.Module) -> Callable[[nn.Module, dict[str, Tensor]], Tensor]:
    """Raises ConfigError or ModelError for a teacher of other labels or another vocabulary, or that cannot be loaded."""
    task = task_of(model)
    master = load_teacher(config, model)
    layout = choose(master, batch_of, weight_type(config.dtype))
    own = with_head(model)
    causal = kinds.of_config(own.config) == "decoder"
    bring = [None] * len(blocks(own))
    within = insides.settle(config, own, master, bring, causal, "objective")

    def step_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        if not model.training:
            return (labels_losses(task, at_least_float32(logits(model, batch)), batch) * batch["counted"]).sum()
        check_batch(batch, layout, within is not None)
        if within is None:
            scores, told = logits(model, batch), answers(master, batch)
        else:
            with within.of_teacher(master) as its:
                told = answers(master, batch)
            with within.of_student(own) as mine:
                scores = logits(model, batch)
        scores = at_least_float32(scores)
        taught = teacher_losses(config.match, config.temperature, task, scores, told.to(scores))
        found = config.weight * taught + (1 - config.weight) * labels_losses(task, scores, batch)
        total = (found * batch["counted"]).sum()
        return total if within is None else total + config.weight * within.loss(mine, its, batch, batch["counted"] > 0)

    return step_loss


def num_targets(batch: dict[str, Tensor]) -> Tensor:
    return torch.count_nonzero(batch["counted"])


@torch.no_grad()
def answers(master: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """The teacher's outputs for `batch`, [targets, outputs]."""
    return logits(master, batch)


def teacher_losses(match: str, temperature: float, task: Task, scores: Tensor, told: Tensor) -> Tensor:
    """Loss of each target [targets] beside the teacher's outputs, in nats (of a regression: in the square of its unit).

    scores, told: [targets, outputs] of student and teacher. soft: T^2 KL of softmaxes of outputs / T; of several labels the sum
    of each label's. hard: as if what the teacher finds likeliest were the target.
    """
    if match == "hard" or task.kind == "regression":
        return row_losses(PLAIN, task, scores, decided(task, told))
    one, other = scores / temperature, told / temperature
    if task.kind == "multi_label_classification":
        p = torch.sigmoid(other)
        gap = p * (F.logsigmoid(other) - F.logsigmoid(one)) + (1 - p) * (F.logsigmoid(-other) - F.logsigmoid(-one))
        return temperature**2 * gap.sum(1)
    log_p = other.log_softmax(1)
    return temperature**2 * (log_p.exp() * (log_p - one.log_softmax(1))).sum(1)


def decided(task: Task, told: Tensor) -> Tensor:
    """The targets that the outputs `told` stand for, as in a batch of `nlpft.data.examples`."""
    if task.kind == "regression":
        return told[:, 0]
    return (told > 0).to(told) if task.kind == "multi_label_classification" else told.argmax(1)


def labels_losses(task: Task, scores: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Loss of each target [targets] beside the labels; where targets are mixed with a partner's, that of both by their shares."""
    found = row_losses(PLAIN, task, scores, batch["targets"])
    if "partner" not in batch:
        return found
    other = row_losses(PLAIN, task, scores, batch["targets"][batch["partner"]])
    return batch["share"] * found + (1 - batch["share"]) * other


def load_teacher(config: Config, model: Any) -> Any:
    """The teacher, on this process's device. Raises ConfigError where it is not set, or answers to something else."""
    check_shares(config, "objective")
    if not config.teacher:
        raise ConfigError(
            "objective.teacher is not set: give the folder of a run of classify or tag on the same labels"
        )
    own = with_head(model)
    check_vocabulary(own.config.name_or_path, config.teacher)
    master = resting(trained_head(model_folder(config.teacher), config.dtype)).to(device())
    same: Any = attention.implementation(own)
    compute = ComputeConfig(compile=False, attention=same)  # no two batches have one shape
    master = prepare(master, compute, device(), weight_type(config.dtype))
    task, its = task_of(model), task_of(master)
    if (task.kind, task.labels) != (its.kind, its.labels):
        raise ConfigError(
            f"objective.teacher {config.teacher}: is for {its.kind} {', '.join(its.labels)}; the data is for {task.kind} "
            f"{', '.join(task.labels)}"
        )
    widths = states.width(own), states.width(with_head(master))
    if config.hidden and widths[0] != widths[1]:
        raise ConfigError(
            f"objective.hidden {config.hidden}: hidden states of the student have {widths[0]} numbers, the teacher's "
            f"{widths[1]}; set hidden to 0 and relations, which need no equal widths, to 1"
        )
    return master


def check_batch(batch: dict[str, Tensor], layout: Layout, within: bool) -> None:
    """Raise ConfigError where the teacher cannot read the student's batches."""
    if "features" in batch:
        raise ConfigError(
            "data.features once: are the student's, and the teacher cannot read them; set data.features each_step"
        )
    packed = "cu_seqlens" in batch
    if packed != layout.packed or (within and not packed):
        raise ConfigError(
            "objective.teacher: takes rows "
            + ("without padding, the student padded" if layout.packed else "padded")
            + (
                "; hidden and relations need rows without padding"
                if within
                else "; take a student of the same architecture"
            )
        )
