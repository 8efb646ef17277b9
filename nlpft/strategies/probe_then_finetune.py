"""A linear probe, then fine-tuning from it: the head is right before the features move (LP-FT, Kumar et al. 2022)."""

from dataclasses import dataclass
from typing import Literal

from nlpft.errors import ConfigError
from nlpft.models.heads import rate_factors
from nlpft.strategies import _lab
from nlpft.strategies._lab import Fit, Lab, Predict


@dataclass(frozen=True)
class Config:
    name: Literal["probe_then_finetune"] = "probe_then_finetune"
    share: float = 0.3
    """Share of the budget in which the head alone trains."""
    probe_factor: float = 10.0
    """How many times faster the head learns in that time than in fine-tuning."""
    evaluations: int = 3
    """How often data.eval is scored while all weights train, to keep the best of them."""


def check(config: Config, lab: Lab) -> None:
    _lab.check_evaluations("probe_then_finetune", config.evaluations)
    if not 0 < config.share < 1:
        raise ConfigError(f"share {config.share:g}: of the budget, above 0 and below 1")
    if not config.probe_factor > 0:
        raise ConfigError(f"probe_factor {config.probe_factor:g}: a factor above 0")
    least = max(1 / config.share, (1 + config.evaluations * lab.judging) / (1 - config.share))
    _lab.require(lab, config.name, least, f"a step in each part, {config.evaluations} times data.eval")


def train(config: Config, lab: Lab, seed: int) -> Predict:
    _lab.freeze_body(lab.model)
    faster = {name: config.probe_factor * rate for name, rate in rate_factors(lab.model, lab.cfg.head).items()}
    for _ in _lab.fit(lab, seed, Fit(until=lab.meter.part(config.share), factors=faster)):
        pass
    lab.model.requires_grad_(True)
    _lab.fit_best(lab, seed + 1, config.evaluations)
    return _lab.predictor(lab)
