"""One of Optuna's samplers, made anew for each trial: what it draws follows from the seed and the trial's number.

So workers draw different candidates, and a search that goes on does not draw again what it had.
"""

from collections.abc import Callable
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from nlpft.samplers._dimensions import Point, Space, generator


class ByTrial(BaseSampler):
    """make: a sampler from a seed."""

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self.make, self.seed = make, seed
        self.latest: tuple[int, BaseSampler] | None = None

    def of(self, trial: FrozenTrial) -> BaseSampler:
        if self.latest is None or self.latest[0] != trial.number:
            drawn = int(generator(self.seed, trial).integers(2**31))
            self.latest = trial.number, self.make(drawn)
        return self.latest[1]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Space:
        return self.of(trial).infer_relative_search_space(study, trial)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: Space) -> Point:
        return self.of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.of(trial).sample_independent(study, trial, param_name, param_distribution)
