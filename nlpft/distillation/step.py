"""What a batch is scored by in distillation: labels, the teacher's outputs, and where wanted its insides, as one sum."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nlpft.distillation import states, teacher
from nlpft.distillation.outputs import ROWS, Logits, TopK, compared, mixed, whole
from nlpft.distillation.settings import DistillationConfig, inner, weight_at
from nlpft.distillation.states import captured
from nlpft.distillation.student import projections
from nlpft.errors import ConfigError
from nlpft.models.blocks import blocks
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
    insides = _insides(config, bare(model), master) if master is not None and inner(config) else None

    def step_loss(model: nn.Module, batch: Batch) -> Tensor:
        weight = weight_at(config, int(batch["step"]), max_steps) if model.training else 0.0
        if weight == 0:
            return loss(model, batch) + _nothing(model)
        if insides is not None:
            return insides(model, batch, weight)
        answers = _stored(batch) if master is None else teacher.logits(master, batch)
        return outputs_loss(config, model, batch, answers, weight)

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


def _insides(config: DistillationConfig, model: Any, master: nn.Module) -> Callable[[nn.Module, Batch, float], Tensor]:
    """The loss of a batch where hidden states or relations are learnt too."""
    matched = states.pairs(len(blocks(model)), len(blocks(master))) if config.hidden else []
    parts = config.relation_heads or states.heads(model, master)
    check_insides(config, [model, master], parts, "distillation")
    own, wanted = [i for i, _ in matched], sorted({j for _, j in matched})
    bring = projections(model)

    def loss_of(model: nn.Module, batch: Batch, weight: float) -> Tensor:
        positions, counts = batch["positions"], batch["targets"] != IGNORE
        with torch.no_grad(), captured(master, wanted, bool(config.relations)) as its:
            answers = teacher.logits(master, batch)
        with captured(model, own, bool(config.relations)) as mine:
            total = outputs_loss(config, model, batch, answers, weight)
        if config.hidden:
            told = [its.hidden[j] for _, j in matched]
            found = states.hidden_loss([mine.hidden[i] for i in own], told, positions, counts, bring)
            total = total + weight * config.hidden * found
        if config.relations:
            found = states.relations_loss(mine, its, batch["cu_seqlens"], positions, counts, parts, causal=True)
            total = total + weight * config.relations * found
        return total

    return loss_of


def check_insides(config: Any, models: list[Any], parts: int, key: str) -> None:
    """Raise ConfigError where hidden states or relations of these models cannot be seen, or not be cut into `parts`."""
    if not config.relations:
        return
    states.check_heads(parts, models, key)
    for model in models:
        states.query_key_value(blocks(bare(model))[-1], type(bare(model)).__name__)
        if any("forward" in vars(block) for block in blocks(bare(model))):
            raise ConfigError(f"{key}.relations: lie within blocks, which are compiled here; set compute.compile false")


def check_whole(model: nn.Module) -> None:
    """Raise ConfigError where the matrices for hidden states would lie in parts outside the call that makes them whole."""
    if is_sharded(model) and any(bring is not None for bring in projections(bare(model))):
        raise ConfigError("distillation.projection: not with weights in parts (FSDP2, ZeRO 3); launch ddp.yaml")


def _nothing(model: nn.Module) -> Tensor | float:
    """0, whose gradient reaches the projections: DistributedDataParallel waits for that of every weight that trains."""
    made = [bring for bring in projections(bare(model)) if bring is not None]
    return sum(bring.weight.sum() * 0.0 for bring in made) if made and model.training else 0.0
