"""A genetic algorithm: the better half of what was tried has children, which are crossed and mutated (Holland 1975).

Generations, and who their parents were, stand in the study (Optuna's BaseGASampler): workers share them, and a killed search
goes on. The best few stay among the parents for good (elitism, De Jong 1975). Pruned candidates come behind completed ones.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseGASampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nlpft.samplers import _dimensions as dimensions
from nlpft.samplers._dimensions import Point, Space, generator
from nlpft.samplers._population import CROSS, SELECT, adaptive_rate, crossed, mutated

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
TRIES = 20  # children that were scored before are thrown away so often


@dataclass(frozen=True)
class Config:
    name: Literal["genetic"] = "genetic"
    population: int = 12
    """Candidates of one generation."""
    elite: int = 2
    """How many of the best stay among the parents, whatever their age; they are not scored again."""
    selection: Literal["tournament", "roulette", "rank"] = "tournament"
    """How parents are chosen: best of a few, by fitness, or by rank."""
    pressure: float = 3.0
    """How much the better are preferred: candidates in a tournament, roulette's exponent, or how often rank takes the best (1 to
    2)."""
    crossover: Literal["one_point", "two_point", "uniform"] = "two_point"
    """Which genes come from the second parent."""
    crossover_rate: float = 0.9
    """Share of children that have two parents."""
    mutation_rate: float | None = None
    """Chance of each value to change; not set: one of them in the mean."""
    adaptive: bool = True
    """Whether the rate rises to mutation_high for children of worse parents, and where all are equal."""
    mutation_high: float = 0.15
    """adaptive: the highest rate."""


def build(config: Config, seed: int, budget: int, space: Space) -> "Genetic":
    check(config)
    return Genetic(config, seed)


def least(config: Config) -> int:
    return config.population


def check(config: Config) -> None:
    """Raise ConfigError for settings that could not search."""
    most = {"tournament": config.population, "rank": 2.0}.get(config.selection, np.inf)
    share = "a share from 0 to 1"
    dimensions.check(
        {
            "population": (config.population >= 2, "at least 2 have children"),
            "elite": (0 <= config.elite < config.population, "fewer than the population"),
            "pressure": (1 <= config.pressure <= most, f"from 1 to {most:g} with selection {config.selection}"),
            "crossover_rate": (0 <= config.crossover_rate <= 1, share),
            "mutation_rate": (config.mutation_rate is None or 0 <= config.mutation_rate <= 1, share),
            "mutation_high": (0 < config.mutation_high <= 1, "a share above 0, at most 1"),
        },
        config,
    )


class Genetic(BaseGASampler):
    """Optuna's sampler of that kind; the study has one objective."""

    def __init__(self, config: Config, seed: int) -> None:
        super().__init__(config.population)
        self.config, self.seed, self.spaces = config, seed, IntersectionSearchSpace()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Space:
        return dimensions.in_order(self.spaces.calculate(study))

    def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
        """The generation that is not full yet. Optuna's own counts completed trials only, and would wait for those pruned."""
        marked = trial.system_attrs.get(self._get_generation_key())
        if marked is not None:
            return int(marked)
        ages = [self.age(one) for one in study.get_trials(deepcopy=False, states=ENDED)]
        latest = max([0, *ages])
        generation = latest + (ages.count(latest) >= self.config.population)
        study._storage.set_trial_system_attr(trial._trial_id, self._get_generation_key(), generation)
        return generation

    def get_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        return [one for one in study.get_trials(deepcopy=False, states=ENDED) if self.age(one) == generation]

    def age(self, trial: FrozenTrial) -> int:
        """The generation of a trial; -1 where it has none, as another sampler proposed it."""
        return int(trial.system_attrs.get(self._get_generation_key(), -1))

    def select_parent(self, study: Study, generation: int) -> list[FrozenTrial]:
        """Who may have children in `generation`: the one before it, and the best of its own parents."""
        older = self.get_parent_population(study, generation - 1)
        elite = sorted(older, key=lambda trial: dimensions.standing(study, trial))[: self.config.elite]
        return [*self.get_population(study, generation - 1), *elite]

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: Space) -> Point:
        """A child; nothing in the first generation, whose values are drawn one by one."""
        parents = self.get_parent_population(study, self.get_trial_generation(study, trial))
        fitting = [parent for parent in parents if search_space.keys() <= parent.params.keys()]
        if not fitting or not search_space:
            return {}
        energies, rng = dimensions.energies(study, fitting), generator(self.seed, trial)
        old = dimensions.finished(study, search_space, *ENDED)
        known = {dimensions.key(search_space, one.params) for one in old}
        for _ in range(TRIES):
            child = self.child(search_space, [parent.params for parent in fitting], energies, rng)
            if dimensions.key(search_space, child) not in known:
                break
        return child

    def child(self, space: Space, parents: list[Point], energies: np.ndarray, rng: np.random.Generator) -> Point:
        config, select = self.config, SELECT[self.config.selection]
        one, other = (select(energies, config.pressure, rng) for _ in range(2))
        found = parents[one]
        if rng.random() < config.crossover_rate:
            found = crossed(space, found, parents[other], CROSS[config.crossover](len(space), rng))
        rate = 1 / len(space) if config.mutation_rate is None else config.mutation_rate
        if config.adaptive:
            own = min(energies[one], energies[other])
            rate = adaptive_rate(own, energies, rate, max(rate, config.mutation_high))
        return mutated(space, found, rate, rng)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return dimensions.draw(param_distribution, generator(self.seed, trial, param_name))
