"""Every candidate of a grid, in an order that is drawn; Optuna's own sampler."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, GridSampler

from nlpft.errors import ConfigError
from nlpft.samplers import _dimensions as dimensions
from nlpft.samplers._dimensions import Space

MOST = 1_000_000  # points of a grid that are written into a study


@dataclass(frozen=True)
class Config:
    name: Literal["grid"] = "grid"
    points: int = 5
    """Values of a dimension that is a range, its ends among them; of a choice all are taken."""


def build(config: Config, seed: int, budget: int, space: Space) -> BaseSampler:
    dimensions.check({"points": (config.points >= 2, "at least the two ends")}, config)
    grid = {name: values(dimension, config.points) for name, dimension in space.items()}
    size = float(np.prod([float(len(found)) for found in grid.values()]))
    if size > MOST:
        raise ConfigError(f"search.name grid: the grid has {size:.3g} points; take fewer dimensions, or another search")
    return _Grid(grid, seed)


class _Grid(GridSampler):
    def after_trial(self, *args: Any, **kwargs: Any) -> None:
        """Optuna's own stops Study.optimize here when the grid is used up, which fails where that does not run."""


def least(config: Config) -> int:
    return 1


def values(dimension: BaseDistribution, points: int) -> list[Any]:
    """Values of a dimension on the grid, each once."""
    if isinstance(dimension, CategoricalDistribution):
        return list(dimension.choices)
    if isinstance(dimension, IntDistribution) and not dimension.log:
        count = (dimension.high - dimension.low) // dimension.step + 1
        if count <= points:
            return list(range(dimension.low, dimension.high + 1, dimension.step))
    return list(dict.fromkeys(dimensions.at(dimension, place) for place in np.linspace(0, 1, points).tolist()))
