"""Simulated annealing: from one candidate to a neighbour, which may be worse while it is hot (Kirkpatrick et al. 1983).

The chain follows from the trials in the study, so workers share it, and a killed search goes on. Of several workers each
proposes a neighbour of where the chain stands when it asks. It is led to what is not scored yet: a candidate that is known
would teach nothing, and where all neighbours are known, those further off are neighbours too.
"""

import math
from collections.abc import Container
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nlpft.samplers import _dimensions as dimensions
from nlpft.samplers._cooling import Chain, Cooling, Move, Schedule, after, begin
from nlpft.samplers._dimensions import Point, Space, energy, generator

MARK = "annealing:chance"  # on trials that are moves of the chain
TRIES = 20  # known neighbours one behind the other, from which on it looks further away


@dataclass(frozen=True)
class Config:
    name: Literal["annealing"] = "annealing"
    cooling: Cooling = "exponential"
    """How the temperature falls: along a line to 0, by a factor a move, or so that as many moves are accepted as Lam's schedule
    wants."""
    temperature: float | None = None
    """The initial one, in the unit of the score; not set: estimated from the first moves."""
    acceptance: float = 0.5
    """Share of the rises that the estimated temperature accepts at first."""
    probes: int = 10
    """Moves of a random walk from which the temperature is estimated."""
    end: float = 0.01
    """exponential: share of the initial temperature at the end of the budget."""
    flips: int = 2
    """Values that a move changes, at most: one to so many, all equally likely."""
    reheat_after: int = 25
    """Moves without a new best after which it is heated again and goes back to the best; 0: never."""
    reheat: float = 0.5
    """Share of the initial temperature that it is heated to."""


def build(config: Config, seed: int, budget: int, space: Space) -> "Annealing":
    check(config)
    return Annealing(config, seed, budget)


def least(config: Config) -> int:
    return 2 + (config.probes if config.temperature is None else 0)


def check(config: Config) -> None:
    """Raise ConfigError for settings that could not search."""
    warm = config.temperature is None or 0 < config.temperature < math.inf
    dimensions.check(
        {
            "temperature": (warm, "above 0, or unset"),
            "acceptance": (0 < config.acceptance < 1, "a share above 0, below 1"),
            "probes": (config.probes >= 1, "at least 1"),
            "end": (0 < config.end <= 1, "a share above 0, at most 1"),
            "flips": (config.flips >= 1, "at least 1"),
            "reheat_after": (config.reheat_after >= 0, "0 or more"),
            "reheat": (0 < config.reheat <= 1, "a share above 0, at most 1"),
        },
        config,
    )


class Annealing(BaseSampler):
    """Optuna's sampler of that kind; the study has one objective. moves: scored candidates after which it is cold."""

    def __init__(self, config: Config, seed: int, moves: int) -> None:
        self.config, self.seed, self.spaces = config, seed, IntersectionSearchSpace()
        self.latest: tuple[tuple[int, ...], Chain | None] = ((), None)
        self.schedule = Schedule(
            config.cooling,
            config.temperature,
            config.acceptance,
            config.probes,
            moves,
            config.end,
            config.reheat_after,
            config.reheat,
        )

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Space:
        return dimensions.in_order(self.spaces.calculate(study))

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: Space) -> Point:
        """A neighbour of where the chain stands; nothing before there is anywhere to stand."""
        state = self.state(study, search_space) if search_space else None
        if state is None:
            return {}
        rng = generator(self.seed, trial)
        study._storage.set_trial_system_attr(trial._trial_id, MARK, rng.random())
        done = dimensions.finished(study, search_space, TrialState.COMPLETE, TrialState.PRUNED)
        known = {dimensions.key(search_space, one.params) for one in done}
        return unknown(search_space, state.point, self.config.flips, known, rng)

    def state(self, study: Study, space: Space) -> Chain | None:
        """Where the chain stands: it begins at the best of the trials that are not its own."""
        ended = dimensions.finished(study, space, TrialState.COMPLETE, TrialState.PRUNED)
        done = [
            one for one in ended if dimensions.COPY not in one.user_attrs
        ]  # copies cost nothing, so nothing cools by them
        others = [one for one in done if MARK not in one.system_attrs and one.state == TrialState.COMPLETE]
        if not others:
            return None
        first = dimensions.best(study, others)
        numbers = (first.number, *(one.number for one in done if MARK in one.system_attrs))
        known, state = self.latest  # trials end in any order: what was reckoned holds where the old ones came first
        if known != numbers[: len(known)] or state is None:
            known, state = numbers[:1], begin(move(study, space, first), self.schedule)
        own = [one for one in done if MARK in one.system_attrs][len(known) - 1 :]
        state = reduce(lambda so_far, one: after(so_far, move(study, space, one), self.schedule), own, state)
        self.latest = numbers, state
        return state

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return dimensions.draw(param_distribution, generator(self.seed, trial, param_name))


def move(study: Study, space: Space, trial: FrozenTrial) -> Move:
    """A trial as a move of the chain; one that was pruned is never accepted."""
    done = trial.state == TrialState.COMPLETE
    point = {name: trial.params[name] for name in space}
    return Move(point, energy(study, trial) if done else math.inf, trial.system_attrs.get(MARK, 0.0))


def unknown(space: Space, point: Point, flips: int, known: Container[Any], rng: np.random.Generator) -> Point:
    """A neighbour of `point` whose key is not in `known`; in one more of its values different where none such is found."""
    for most in range(flips, max(flips, len(space)) + 1):
        for _ in range(TRIES):
            found = neighbour(space, point, most, rng)
            if dimensions.key(space, found) not in known:
                return found
    return found


def neighbour(space: Space, point: Point, flips: int, rng: np.random.Generator) -> Point:
    """`point` with one to `flips` of its values changed."""
    count = min(len(space), int(rng.integers(1, flips + 1)))
    hit = set(rng.choice(len(space), size=count, replace=False).tolist())
    return {
        name: dimensions.changed(dimension, point[name], rng) if number in hit else point[name]
        for number, (name, dimension) in enumerate(space.items())
    }
