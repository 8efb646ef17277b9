"""Adversarial training on embeddings: each step also learns from the rows' embeddings moved to where the loss is higher.

fgm   one move of length epsilon along the gradient; learns from the mean of the loss before and after it (Miyato et al. 2017)
pgd   several moves, each followed by projection into the ball of radius epsilon; learns from the loss after them (Madry et al.
      2018)

Lengths are Euclidean, over all tokens of a row, as shares of the length of the row's own embeddings: Miyato et al. normalise the
embeddings instead, which a pretrained network would not survive.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nlpft.errors import ConfigError
from nlpft.strategies import _lab
from nlpft.strategies._lab import Batch, Fit, Lab, Predict
from nlpft.strategies._meter import AGAIN
from nlpft.training import method
from nlpft.training.loop import StepLoss


@dataclass(frozen=True)
class Config:
    name: Literal["adversarial"] = "adversarial"
    attack: Literal["fgm", "pgd"] = "fgm"
    """One move along the gradient, or several with projection."""
    epsilon: float = 0.1
    """How far a row's embeddings move, as a share of their length."""
    moves: int = 3
    """pgd: how many moves; each costs a pass forward and backward."""
    move: float = 0.05
    """pgd: length of a move, as a share of the length of the row's embeddings."""
    evaluations: int = 3
    """How often data.eval is scored, to keep the best weights."""


def check(config: Config, lab: Lab) -> None:
    _lab.check_evaluations("adversarial", config.evaluations)
    if not (config.epsilon > 0 and config.move > 0) or config.moves < 1:
        raise ConfigError(
            f"epsilon {config.epsilon:g}, move {config.move:g}: lengths above 0; moves {config.moves}: at least 1"
        )
    least = passes(config) + config.evaluations * lab.judging
    _lab.require(lab, f"adversarial --attack {config.attack}", least, "one step with its attack, and data.eval")


def train(config: Config, lab: Lab, seed: int) -> Predict:
    loss, count = method.score(lab.cfg.objective, lab.model)
    score = (fgm if config.attack == "fgm" else pgd)(config, loss), count
    _lab.fit_best(lab, seed, config.evaluations, Fit(passes=passes(config), score=score))
    return _lab.predictor(lab)


def passes(config: Config) -> float:
    """Steps' worth of a step. fgm goes backward from the clean loss twice: for the move, and to learn."""
    return 2 + AGAIN if config.attack == "fgm" else config.moves + 1


def fgm(config: Config, loss: StepLoss) -> StepLoss:
    def step_loss(model: nn.Module, batch: Batch) -> Tensor:
        with embedded(model) as place:
            clean = loss(model, batch)
            (gradient,) = torch.autograd.grad(clean, place.output, retain_graph=True)
            place.moved = along(gradient, batch, config.epsilon * norms(place.output, batch))
            return (clean + loss(model, batch)) / 2

    return step_loss


def pgd(config: Config, loss: StepLoss) -> StepLoss:
    def step_loss(model: nn.Module, batch: Batch) -> Tensor:
        with embedded(model) as place:
            for _ in range(config.moves):
                (gradient,) = torch.autograd.grad(loss(model, batch), place.output)
                clean = place.clean.detach()
                lengths = norms(clean, batch)
                further = place.moved + along(gradient, batch, config.move * lengths)
                place.moved = within(further, batch, config.epsilon * lengths)
            return loss(model, batch)

    return step_loss


class Place:
    """The embeddings of the last call of a model, and by how much the next one's are moved."""

    moved: Any = 0.0  # [rows, time, width], or [1, time, width] packed
    clean: Tensor  # what the embeddings gave
    output: Tensor  # what the model saw


@contextmanager
def embedded(model: Any) -> Iterator[Place]:
    """Within it the model's word embeddings are seen, and moved."""
    place = Place()

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        place.clean, place.output = output, output + place.moved
        return place.output

    handle = model.get_input_embeddings().register_forward_hook(hook)
    try:
        yield place
    finally:
        handle.remove()


def along(gradient: Tensor, batch: Batch, lengths: Tensor) -> Tensor:
    """The direction of each row's gradient at these lengths; where there is no gradient, nothing."""
    return lengths * gradient / norms(gradient, batch).clamp(min=torch.finfo(gradient.dtype).tiny)


def within(moved: Tensor, batch: Batch, radius: Tensor) -> Tensor:
    """`moved`, each row of it no longer than `radius`."""
    return moved * (radius / norms(moved, batch).clamp(min=torch.finfo(moved.dtype).tiny)).clamp(max=1)


def norms(values: Tensor, batch: Batch) -> Tensor:
    """Euclidean length of each row's `values` over all its tokens, at each token: [1, time, 1] packed, else [rows, 1, 1]."""
    squares = values.detach().square().sum(-1)
    if "cu_seqlens" not in batch:
        return (squares * batch["attention_mask"]).sum(1).sqrt()[:, None, None]
    lengths = batch["cu_seqlens"].diff().long()
    owner = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    return squares.new_zeros(len(lengths)).index_add(0, owner, squares[0]).sqrt()[owner][None, :, None]
