"""Candidates drawn at random, the baseline of every search (Bergstra & Bengio 2012); Optuna's own sampler."""

from dataclasses import dataclass
from typing import Literal

from optuna.samplers import BaseSampler, RandomSampler

from nlpft.samplers._by_trial import ByTrial
from nlpft.samplers._dimensions import Space


@dataclass(frozen=True)
class Config:
    name: Literal["random"] = "random"


def build(config: Config, seed: int, budget: int, space: Space) -> BaseSampler:
    return ByTrial(RandomSampler, seed)


def least(config: Config) -> int:
    return 1
