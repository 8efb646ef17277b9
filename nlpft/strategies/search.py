"""Search for the blocks to keep and to train, by cheap trials within the budget; the winner trains anew with what is left.

The space and the searches are those of recipes/search_layers.py, which has a budget of its own for the winner; here candidates
and winner share one. All candidates have the same head, rows and dropout.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import optuna

from nlpft.config import module_of, plugin
from nlpft.errors import ConfigError
from nlpft.models.blocks import blocks
from nlpft.models.heads import rate_factors
from nlpft.samplers._dimensions import Point, Space
from nlpft.search import candidate, study
from nlpft.search.space import SpaceConfig, space_of
from nlpft.strategies import _items, _lab
from nlpft.strategies._lab import Fit, Lab, Predict


@dataclass(frozen=True)
class Config:
    name: Literal["search"] = "search"
    share: float = 0.5
    """Share of the budget for all candidates together."""
    trials: int = 12
    """Candidates that are scored; each has as much of that share as any other."""
    cost: float = 0.0
    """Nats that training all weights costs, less of them in proportion; added to the loss on data.eval."""
    evaluations: int = 3
    """How often data.eval is scored while the winner trains, to keep the best weights."""
    space: SpaceConfig = SpaceConfig()
    search: Any = plugin("samplers", "genetic")


def check(config: Config, lab: Lab) -> None:
    _lab.check_evaluations("search", config.evaluations)
    if not 0 < config.share < 1:
        raise ConfigError(f"share {config.share:g}: of the budget, above 0 and below 1")
    if config.space.ranks or config.space.least_blocks or config.space.transplant:
        raise ConfigError(
            "space: this strategy searches keep and rates; leave ranks, least_blocks and transplant unset"
        )
    least = module_of(config.search).least(config.search)
    if config.trials < least:
        raise ConfigError(f"trials {config.trials}: search.name {config.search.name} needs at least {least}; raise it")
    study.check(space_of(config.space, len(blocks(lab.model))), config.trials)
    searching = config.trials * (1 + lab.judging) / config.share
    winning = (1 + config.evaluations * lab.judging) / (1 - config.share)
    why = f"a step and data.eval for each of {config.trials} trials in {config.share:g} of it, and for the winner"
    _lab.require(lab, "search", max(searching, winning), why)


def train(config: Config, lab: Lab, seed: int) -> Predict:
    space = space_of(config.space, len(blocks(lab.model)))
    sampler = module_of(config.search).build(config.search, seed, config.trials, space)
    searched = study.open_study(None, space, sampler)
    slot = (lab.meter.part(config.share) - lab.meter.used) / config.trials
    temperatures: list[float | None] = []

    def score(trial: optuna.Trial, point: Point) -> float:
        temperatures.append(temperature(sampler, searched, space))
        return energy(config, lab, point, seed, slot)

    found = study.run(searched, space, score, config.trials)
    tell(lab, searched, found.best.params, temperatures)
    factors = put(lab, found.best.params, seed)
    _lab.fit_best(lab, seed, config.evaluations, Fit(factors=factors))
    return _lab.predictor(lab)


def put(lab: Lab, point: Point, seed: int) -> dict[str, float]:
    """The pretrained model of which a candidate's part trains; factors of its rates."""
    _lab.restart(lab, seed)
    candidate.train(lab.model, point)
    for name, weight in lab.model.named_parameters():  # a pooler without pretrained weights lies below no bit
        weight.requires_grad_(weight.requires_grad or name in lab.model.head_parameters)
    return {**candidate.rate_factors(lab.model, point), **rate_factors(lab.model, lab.cfg.head)}


def energy(config: Config, lab: Lab, point: Point, seed: int, slot: float) -> float:
    """A candidate's loss on data.eval after training within `slot`, in the budget's unit, and what it costs."""
    factors = put(lab, point, seed)
    share = candidate.trained_numbers(lab.model) / sum(p.numel() for p in lab.model.parameters())
    until = lab.meter.used + slot
    for _ in _lab.fit(lab, seed, Fit(until=until, factors=factors), lambda: lab.judging):
        pass
    scored = _lab.outputs(lab, lab.eval)
    _lab.noted(lab, scored)
    return _items.loss(scored) + config.cost * share


def temperature(sampler: Any, searched: optuna.Study, space: Space) -> float | None:
    """Of a search that has one, which is not known before its first moves."""
    state = sampler.state(searched, space) if hasattr(sampler, "state") else None
    known = getattr(state, "temperature", math.inf)
    return known if math.isfinite(known) else None


def tell(lab: Lab, searched: optuna.Study, best: Point, temperatures: list[float | None]) -> None:
    """Notes for the report: the winner's mask, and energies and temperatures in the order of the candidates."""
    trials = [t for t in searched.get_trials(deepcopy=False) if study.COPY not in t.user_attrs]
    lab.notes["mask"] = {name: value for name, value in sorted(best.items()) if name.startswith("keep.")}
    lab.notes["energies"] = [trial.value for trial in trials]
    lab.notes["candidates"] = [dict(sorted(trial.params.items())) for trial in trials]
    if any(value is not None for value in temperatures):
        lab.notes["temperatures"] = temperatures
