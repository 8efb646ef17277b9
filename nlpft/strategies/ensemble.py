"""Ensembles: several members within one budget, whose answers, or whose weights, are put together.

members     seeds: each trains alone on its share, with an order of rows and dropout of its own
            snapshots: one training whose rate falls and rises again, a member at the end of each fall (Huang et al. 2017)
combine     mean: of probabilities; vote: of the labels they say; weighted: mean by weights that data.eval finds best; stacking:
            a logistic regression on their log-probabilities, learnt on data.eval (Wolpert 1992)
            soup: the mean of their weights; greedy_soup: of those that make data.eval no worse, the best first (Wortsman et al.
            2022). Members of soups begin with one head, as those have to lie in one basin
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp, softmax
from torch import Tensor

from nlpft.data.examples import Examples
from nlpft.errors import ConfigError
from nlpft.evaluation.head_scores import Scored
from nlpft.search.fitness import Pretrained
from nlpft.strategies import _lab
from nlpft.strategies._lab import Fit, Lab, Predict

Weights = dict[str, Tensor]
Combine = Callable[
    [np.ndarray], np.ndarray
]  # log-probabilities [members, targets, outputs] -> logits [targets, outputs]
SOUPS = ("soup", "greedy_soup")
LEARNT = ("weighted", "stacking", "greedy_soup")  # what data.eval decides


@dataclass(frozen=True)
class Config:
    name: Literal["ensemble"] = "ensemble"
    members: Literal["seeds", "snapshots"] = "seeds"
    """Trained apart, or taken from one training."""
    count: int = 3
    """Number of members."""
    combine: Literal["mean", "vote", "weighted", "stacking", "soup", "greedy_soup"] = "mean"
    """How they are put together."""


def check(config: Config, lab: Lab) -> None:
    if config.count < 1:
        raise ConfigError(f"count {config.count}: at least one member")
    least = config.count + judging(config) * lab.judging
    _lab.require(lab, f"ensemble of {config.count}", least, "a step for each member, and data.eval where it decides")


def judging(config: Config) -> int:
    """How often data.eval is scored: by each member, and by each mixture of a greedy soup but the first."""
    greedy = config.combine == "greedy_soup"
    return config.count * (config.combine in LEARNT) + (config.count - 1) * greedy


def train(config: Config, lab: Lab, seed: int) -> Predict:
    reserve = judging(config) * lab.judging
    made = (apart if config.members == "seeds" else snapshots)(config, lab, seed, reserve)
    found = list(made)
    if config.combine in SOUPS:
        return soup(config, lab, found)
    return answers(config, lab, found)


def apart(config: Config, lab: Lab, seed: int, reserve: float) -> Iterator[Pretrained]:
    """Members that train one after the other, each on as much as the others."""
    slot = (lab.meter.limit - lab.meter.used - lab.meter.units(reserve)) / config.count
    for number in range(config.count):
        own = seed * config.count + number
        _lab.restart(lab, seed if config.combine in SOUPS else own)
        until = lab.meter.used + slot
        for _ in _lab.fit(lab, own, Fit(until=until)):
            pass
        yield Pretrained(lab.model)


def snapshots(config: Config, lab: Lab, seed: int, reserve: float) -> Iterator[Pretrained]:
    """Members of one training, each from the end of a cosine of the rate; without warm-up, whose place the cosines take."""
    optim = replace(lab.cfg.optim, schedule="cosine_restarts", cycles=config.count, warmup=0)
    first = lab.meter.used
    end = lab.meter.limit - lab.meter.units(reserve)
    taken = 0
    planned = _lab.planned(lab, Fit(until=end))
    for report in _lab.fit(lab, seed, Fit(until=end, optim=optim)):
        share = report.step / planned if planned else (lab.meter.used - first) / (end - first)
        if taken < config.count - 1 and share >= (taken + 1) / config.count - 1e-9:
            taken += 1
            yield Pretrained(lab.model)
    yield Pretrained(lab.model)


def soup(config: Config, lab: Lab, members: Sequence[Pretrained]) -> Predict:
    """One model with the mean of the members' weights, all of them or those that help."""
    values = [member.values for member in members]
    put(lab, mean_weights(greedy(lab, values) if config.combine == "greedy_soup" else values))
    return _lab.predictor(lab)


@torch.no_grad()
def mean_weights(members: Sequence[Weights]) -> Weights:
    """The mean of each weight; what is no fraction, such as positions, is the first member's."""
    first = members[0]
    return {
        name: torch.stack([own[name] for own in members]).mean(0) if value.is_floating_point() else value
        for name, value in first.items()
    }


def greedy(lab: Lab, members: Sequence[Weights]) -> list[Weights]:
    """The ingredients: the best member, and each further one, in the order of their scores, that makes data.eval no worse."""

    def judged(weights: Weights) -> tuple[float, float]:
        put(lab, weights)
        return _lab.judged(lab)

    ranked = sorted(((judged(own), number) for number, own in enumerate(members)))
    best, chosen = ranked[0][0], [members[ranked[0][1]]]
    for _, number in ranked[1:]:
        found = judged(mean_weights([*chosen, members[number]]))
        if found <= best:
            best, chosen = found, [*chosen, members[number]]
    return chosen


def put(lab: Lab, weights: Weights) -> None:
    lab.model.load_state_dict(weights)


def answers(config: Config, lab: Lab, members: Sequence[Pretrained]) -> Predict:
    """What answers by the members' answers."""

    def said(rows: Examples) -> tuple[np.ndarray, Scored]:
        """Log-probabilities [members, targets, outputs], and what the last member scored."""
        found = []
        for member in members:
            member.restore(lab.model)
            scored = _lab.outputs(lab, rows)
            found.append(log_softmax(scored.logits.astype(np.float64), axis=-1))
        return np.stack(found), scored

    combine = COMBINE.get(config.combine)
    if combine is None:
        known, scored = said(lab.eval)
        combine = learnt(config.combine, known, scored.targets, lab.task.outputs)
        _lab.noted(lab, scored._replace(logits=combine(known)))
    return lambda rows: combine(said(rows)[0]).astype(np.float32)


def mean(known: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Logarithm of the (weighted) mean of probabilities, of their logarithms [members, targets, outputs]."""
    share = np.full(len(known), 1 / len(known)) if weights is None else weights
    return logsumexp(known, axis=0, b=share[:, None, None])


def vote(known: np.ndarray) -> np.ndarray:
    """Logarithm of each label's share of the votes, as if each label had one vote more, shared by all: none is impossible.

    Of equal votes the label that is more probable on average is ahead, by next to nothing.
    """
    votes = np.eye(known.shape[2])[known.argmax(2)].sum(0)
    ahead = 1e-6 * np.exp(mean(known))
    return np.log((votes + ahead + 1 / known.shape[2]) / (len(known) + 1 + 1e-6))


COMBINE: dict[str, Combine] = {"mean": mean, "vote": vote}


def learnt(how: str, known: np.ndarray, targets: np.ndarray, outputs: int) -> Combine:
    """What combines, as the answers `known` [members, targets, outputs] to data.eval show."""
    if how == "weighted":
        weights = best_weights(known, targets)
        return lambda said: mean(said, weights)
    return stacked(known, targets, outputs)


def best_weights(known: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Weights [members], positive and together 1, for which the weighted mean loses least; by their softmax, from equal ones."""
    right = np.take_along_axis(known, targets[None, :, None], 2)[:, :, 0]

    def loss(free: np.ndarray) -> float:
        return -float(logsumexp(right, axis=0, b=softmax(free)[:, None]).mean())

    return softmax(minimize(loss, np.zeros(len(known)), method="L-BFGS-B", bounds=[(-10, 10)] * len(known)).x)


def stacked(known: np.ndarray, targets: np.ndarray, outputs: int) -> Combine:
    """A logistic regression on the members' log-probabilities; labels that data.eval lacks get the mean's, less what is left."""
    from sklearn.linear_model import LogisticRegression

    def features(said: np.ndarray) -> np.ndarray:
        return np.concatenate(list(np.maximum(said, -20)), axis=1)

    seen = np.unique(targets)
    if len(seen) < 2:  # nothing to tell apart
        return mean
    fitted = LogisticRegression(max_iter=1000).fit(features(known), targets)

    def combine(said: np.ndarray) -> np.ndarray:
        found = np.full((said.shape[1], outputs), -np.inf)
        found[:, seen] = fitted.predict_log_proba(features(said))
        return np.logaddexp(found + np.log1p(-1e-3), mean(said) + np.log(1e-3))

    return combine
