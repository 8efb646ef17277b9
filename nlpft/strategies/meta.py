"""Meta-learning over source tasks, then fine-tuning on the target: weights from which a few steps lead far.

reptile   a few steps on a source task, then a part of the way to where they led (Nichol et al. 2018)
fomaml    a few steps on a source task; the gradient of further rows there moves the weights from where they began (first-order
          MAML, Finn et al. 2017)

Tasks take turns. Each has an output layer of its own, which goes on learning; all that lies below is shared. `outer_rate 1` of
reptile is plain training on the sources in turn, which shows what meta-learning adds.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from nlpft.errors import ConfigError
from nlpft.strategies import _heads, _lab
from nlpft.strategies._lab import Batch, Fit, Lab, Predict, Source
from nlpft.training import method
from nlpft.training.loop import Count, StepLoss
from nlpft.training.optim import OptimConfig, build_optimizer

Weights = dict[str, Tensor]
MANY = 1_000_000  # seeds of a task's turns, one for each step
HEAD = 0.02  # deviation of a new output layer's weights, as BERT's family has it


@dataclass(frozen=True)
class Config:
    name: Literal["meta"] = "meta"
    algorithm: Literal["reptile", "fomaml"] = "reptile"
    """How a task's steps move the shared weights."""
    share: float = 0.6
    """Share of the budget for the source tasks; the rest is for the target."""
    inner_steps: int = 4
    """Steps on a task before the shared weights move."""
    inner_optimizer: Literal["sgd", "momentum", "rmsprop", "adam", "adamw"] = "adam"
    """Of these steps; it begins anew each time."""
    inner_lr: float = 0.0
    """Their learning rate, which stays as it is; 0: the comparison's highest."""
    outer_rate: float = 0.5
    """reptile: part of the way that the weights go."""
    outer_lr: float = 0.0
    """fomaml: learning rate of the shared weights, by Adam; 0: the comparison's highest."""
    evaluations: int = 3
    """How often data.eval is scored while the target is learnt, to keep the best weights."""


class Learner(NamedTuple):
    """A source task with its output layer, its loss, and its rows in an endless order."""

    source: Source
    layer: nn.Linear
    score: tuple[StepLoss, Count]
    batches: Iterator[list[Batch]]
    seed: int  # of dropout


def check(config: Config, lab: Lab) -> None:
    _lab.check_evaluations("meta", config.evaluations)
    if not lab.sources:
        raise ConfigError("sources is not set: meta learns from other tasks first; give their dataset folders")
    if not 0 < config.share < 1 or not 0 < config.outer_rate <= 1:
        raise ConfigError(
            f"share {config.share:g}: above 0 and below 1; outer_rate {config.outer_rate:g}: above 0, at most 1"
        )
    if config.inner_steps < 1 or min(config.inner_lr, config.outer_lr) < 0:
        raise ConfigError(f"inner_steps {config.inner_steps}: at least 1; inner_lr, outer_lr: 0 or more")
    least = max(
        round_cost(config) * len(lab.sources) / config.share,
        (1 + config.evaluations * lab.judging) / (1 - config.share),
    )
    _lab.require(
        lab, "meta", least, f"each of {len(lab.sources)} source tasks once, a step on the target, and data.eval"
    )


def train(config: Config, lab: Lab, seed: int) -> Predict:
    end = lab.meter.part(config.share)
    learners = [learner(lab, source, seed + number) for number, source in enumerate(lab.sources)]
    shared = shared_weights(lab.model)
    outer = outer_optimizer(config, lab)
    move = reptile if config.algorithm == "reptile" else fomaml
    for number in itertools.count():
        if not lab.meter.affords(round_cost(config), end):
            break
        before = {name: weight.detach().clone() for name, weight in shared.items()}
        move(config, lab, learners[number % len(learners)], shared, before, outer)
    lab.notes["rounds"] = number
    _lab.fit_best(lab, seed, config.evaluations)
    return _lab.predictor(lab)


def round_cost(config: Config) -> int:
    """Steps' worth of one task's turn."""
    return config.inner_steps + (config.algorithm == "fomaml")


def learner(lab: Lab, source: Source, seed: int) -> Learner:
    torch.manual_seed(seed)
    layer = _heads.fresh(_heads.output_layer(lab.model), source.task.outputs, HEAD)
    with _heads.instead(lab.model, layer, source.task):
        score = method.score(lab.cfg.objective, lab.model)
    rows = _lab.draws(source.rows, lab.cfg.data, seed)
    batches = (_lab.micro_batches(source.rows, lab.cfg.data, own) for own in rows)
    return Learner(source, layer, score, batches, seed)


def shared_weights(model: Any) -> dict[str, nn.Parameter]:
    """All but the output layer's, by name."""
    own = _heads.output_name(model)
    return {name: weight for name, weight in model.named_parameters() if not name.startswith(f"{own}.")}


def reptile(config: Config, lab: Lab, one: Learner, shared: Any, before: Weights, outer: Any) -> None:
    inner(config, lab, one)
    with torch.no_grad():
        for name, weight in shared.items():
            weight.copy_(reptile_update(before[name], weight, config.outer_rate))


def reptile_update(before: Tensor, after: Tensor, rate: float) -> Tensor:
    """before + rate * (after - before)."""
    return before + rate * (after - before)


def fomaml(config: Config, lab: Lab, one: Learner, shared: Any, before: Weights, outer: Any) -> None:
    inner(config, lab, one)
    with _heads.instead(lab.model, one.layer, one.source.task):
        outer.zero_grad()
        gradient_of(lab, one, next(one.batches))
    with torch.no_grad():
        for name, weight in shared.items():
            weight.copy_(before[name])
    torch.nn.utils.clip_grad_norm_(list(shared.values()), lab.cfg.optim.max_grad_norm or float("inf"))
    outer.step()
    outer.zero_grad()
    lab.meter.optimizer_steps += 1


def gradient_of(lab: Lab, one: Learner, batches: list[Batch]) -> None:
    """Add the gradient of the mean loss of `batches` to the weights' own."""
    loss, count = one.score
    targets = sum(int(count(batch)) for batch in batches)
    lab.model.train()
    for batch in batches:
        there = {name: x.to(lab.accelerator.device) if x.ndim else x for name, x in batch.items()}
        (loss(lab.model, there) / max(1, targets)).backward()
    one.layer.zero_grad()


def inner(config: Config, lab: Lab, one: Learner) -> None:
    """A few steps on a source task."""
    optim = constant(lab.cfg.optim, config.inner_optimizer, config.inner_lr)
    with _heads.instead(lab.model, one.layer, one.source.task):
        layer = _heads.output_name(lab.model)
        factors = {f"{layer}.{name}": lab.cfg.head.lr_factor for name, _ in one.layer.named_parameters()}
        batches = itertools.islice(one.batches, config.inner_steps)
        how = Fit(optim=optim, score=one.score, batches=batches, factors=factors)
        for _ in _lab.fit(lab, one.seed * MANY + lab.meter.optimizer_steps, how):
            pass


def constant(common: OptimConfig, name: Any, lr: float) -> OptimConfig:
    return replace(common, name=name, lr=lr or common.lr, schedule="constant", warmup=0)


def outer_optimizer(config: Config, lab: Lab) -> torch.optim.Optimizer:
    """Of fomaml; its rates stay as they are, and the output layer, which it passes over, has no gradient then."""
    optim = constant(lab.cfg.optim, "adam", config.outer_lr)
    return build_optimizer(lab.model, optim, {})
