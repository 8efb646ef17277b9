"""Domain-adversarial training (DANN, Ganin et al. 2016): features that do not tell the source's rows from the target domain's.

A small network learns to tell the domains apart from what the head reads; its gradient is reversed before it reaches the body.
The target domain's rows have no labels. A step reads as many of them as of the source's, so it costs two.
"""

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nlpft.data.examples import Examples
from nlpft.errors import ConfigError
from nlpft.models.head_forward import logits
from nlpft.models.heads import rate_factors
from nlpft.strategies import _heads, _lab
from nlpft.strategies._lab import Batch, Fit, Lab, Predict
from nlpft.training import method
from nlpft.training.loop import StepLoss

TARGET = "target."  # before the names of what a batch has of the target domain


@dataclass(frozen=True)
class Config:
    name: Literal["dann"] = "dann"
    weight: float = 1.0
    """Factor of the reversed gradient at the end; it rises from 0 as 2 / (1 + exp(-10 p)) - 1, p the share of the budget."""
    hidden: int = 100
    """Width of the network that tells the domains apart."""
    evaluations: int = 3
    """How often data.eval, which is of the source domain, is scored, to keep the best weights; 0: the last ones are kept."""


def check(config: Config, lab: Lab) -> None:
    _lab.check_evaluations("dann", config.evaluations)
    if lab.unlabelled is None:
        raise ConfigError(
            "unlabelled is not set: dann learns from rows of the target domain; give their dataset folder"
        )
    if not config.weight > 0 or config.hidden < 1:
        raise ConfigError(f"weight {config.weight:g}: above 0; hidden {config.hidden}: at least 1")
    least = 2 + config.evaluations * lab.judging
    _lab.require(lab, "dann", least, "a step with rows of both domains, and data.eval")


def train(config: Config, lab: Lab, seed: int) -> Predict:
    assert lab.unlabelled is not None
    loss, count = method.score(lab.cfg.objective, lab.model)
    torch.manual_seed(seed)
    with judge(lab.model, config.hidden) as names:
        factors = {**rate_factors(lab.model, lab.cfg.head), **dict.fromkeys(names, lab.cfg.head.lr_factor)}
        score = adversary(config, lab, loss), count
        fitted = Fit(passes=2, score=score, batches=both(lab, lab.unlabelled, seed), factors=factors)
        _lab.fit_best(lab, seed, config.evaluations, fitted)
    return _lab.predictor(lab)


class Reversed(torch.autograd.Function):
    """The identity, whose gradient is multiplied by -factor."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * gradient, None


@contextmanager
def judge(model: Any, hidden: int) -> Iterator[list[str]]:
    """Within it `model.domain` tells from features of which domain they are; yields the names of its weights."""
    layer = _heads.output_layer(model)
    made = nn.Sequential(nn.Linear(layer.in_features, hidden), nn.ReLU(), nn.Linear(hidden, 1))
    model.domain = made.to(layer.weight)
    try:
        yield [f"domain.{name}" for name, _ in made.named_parameters()]
    finally:
        del model.domain


def adversary(config: Config, lab: Lab, loss: StepLoss) -> StepLoss:
    """The task's loss on the source, and for each of its targets the mean loss of telling the domains apart."""

    def step_loss(model: Any, batch: Batch) -> Tensor:
        source = {name: value for name, value in batch.items() if not name.startswith(TARGET)}
        other = {name.removeprefix(TARGET): value for name, value in batch.items() if name.startswith(TARGET)}
        with _heads.read_by(_heads.output_layer(model)) as seen:
            own = loss(model, source)
            logits(model, other)
        mine, theirs = (_heads.at_targets(x, b["positions"]) for x, b in zip(seen, (source, other), strict=True))
        factor = config.weight * rising(lab.meter.used / lab.meter.limit)
        return own + source["counted"].sum() * domain_loss(model.domain, mine, theirs, factor)

    return step_loss


def rising(share: float) -> float:
    """Ganin et al.'s schedule: from 0 towards 1."""
    return 2 / (1 + math.exp(-10 * share)) - 1


def domain_loss(network: nn.Module, source: Tensor, target: Tensor, factor: float) -> Tensor:
    """Binary cross-entropy of telling features [source, width] from [target, width], both domains weighing alike."""
    said = [network(Reversed.apply(features, factor))[:, 0] for features in (source, target)]
    of = zip(said, (torch.zeros_like, torch.ones_like), strict=True)
    return sum(F.binary_cross_entropy_with_logits(x, wanted(x)) for x, wanted in of) / 2  # type: ignore[return-value]


def both(lab: Lab, target: Examples, seed: int) -> Iterator[list[Batch]]:
    """Micro-batches of data.train, each with as many rows of the target domain; the labels of these are left out."""
    config = lab.cfg.data
    rows = (row for drawn in _lab.draws(target, config, seed + 1, len(target)) for row in drawn)
    for drawn in _lab.draws(lab.train, config, seed):
        step = []
        for part in lab.train.cut(drawn, config.tokens_per_micro_batch, 1):
            other = target.batch(np.fromiter(itertools.islice(rows, len(part)), np.int64).tolist())
            named = {f"{TARGET}{name}": x for name, x in other.items() if name not in ("targets", "counted")}
            step.append({**lab.train.batch(part), **named})
        yield step
