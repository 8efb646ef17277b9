"""A genetic algorithm, whose best candidate simulated annealing then improves (a memetic search, Moscato 1989)."""

from dataclasses import dataclass
from typing import Any, Literal

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nlpft.samplers import _dimensions as dimensions
from nlpft.samplers import annealing, genetic
from nlpft.samplers._dimensions import Point, Space
from nlpft.samplers.annealing import Annealing
from nlpft.samplers.annealing import Config as AnnealingConfig
from nlpft.samplers.genetic import Config as GeneticConfig
from nlpft.samplers.genetic import Genetic


@dataclass(frozen=True)
class Config:
    name: Literal["hybrid"] = "hybrid"
    share: float = 0.6
    """Share of the budget that the genetic algorithm has; annealing has the rest."""
    genetic: GeneticConfig = GeneticConfig()
    annealing: AnnealingConfig = AnnealingConfig(acceptance=0.2)


def build(config: Config, seed: int, budget: int, space: Space) -> "Hybrid":
    dimensions.check({"share": (0 < config.share < 1, "a share above 0, below 1")}, config)
    first = round(config.share * budget)
    own = (
        genetic.build(config.genetic, seed, first, space),
        annealing.build(config.annealing, seed, budget - first, space),
    )
    return Hybrid(*own, first)


def least(config: Config) -> int:
    """Both parts have what they need."""
    parts = (
        genetic.least(config.genetic) / config.share,
        annealing.least(config.annealing) / max(1e-9, 1 - config.share),
    )
    return -int(-max(parts) // 1)


class Hybrid(BaseSampler):
    """Optuna's sampler of that kind. switch: candidates, copies of others not counted, behind which it anneals."""

    def __init__(self, first: Genetic, then: Annealing, switch: int) -> None:
        self.first, self.then, self.switch = first, then, switch

    def part(self, study: Study, trial: FrozenTrial) -> BaseSampler:
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        copies = sum(dimensions.COPY in one.user_attrs for one in ended if one.number < trial.number)
        return self.first if trial.number - copies < self.switch else self.then

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Space:
        return self.part(study, trial).infer_relative_search_space(study, trial)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: Space) -> Point:
        return self.part(study, trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.part(study, trial).sample_independent(study, trial, param_name, param_distribution)
