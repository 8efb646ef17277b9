"""Bayesian search by tree-structured Parzen estimators (Bergstra et al. 2011); Optuna's own sampler."""

from dataclasses import dataclass
from typing import Literal

from optuna.samplers import BaseSampler, TPESampler

from nlpft.samplers import _dimensions as dimensions
from nlpft.samplers._by_trial import ByTrial
from nlpft.samplers._dimensions import Space


@dataclass(frozen=True)
class Config:
    name: Literal["tpe"] = "tpe"
    startup: int = 10
    """Candidates that are drawn at random before it models anything."""
    multivariate: bool = True
    """Whether dimensions are modelled together (Falkner et al. 2018)."""


def build(config: Config, seed: int, budget: int, space: Space) -> BaseSampler:
    dimensions.check({"startup": (config.startup >= 1, "at least 1")}, config)
    # constant_liar: candidates that other workers have in hand count as bad ones, so that none is proposed twice

    def make(own: int) -> BaseSampler:
        return TPESampler(
            n_startup_trials=config.startup,
            multivariate=config.multivariate,
            constant_liar=True,
            warn_independent_sampling=False,
            seed=own,
        )

    return ByTrial(make, seed)


def least(config: Config) -> int:
    return config.startup + 1
