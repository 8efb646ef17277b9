"""Values of Optuna's dimensions: drawn, changed a little, compared; and what a study knows of candidates so far."""

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nlpft.errors import ConfigError

Space = dict[str, BaseDistribution]
Point = dict[str, Any]  # a candidate: a value for each dimension
COPY = "copy_of"  # user attribute of a trial that took the value of an equal one, and was not scored
REACH = 0.15  # share of a number's range that a change has as its standard deviation


def generator(seed: int, trial: FrozenTrial, name: str = "") -> np.random.Generator:
    """What a trial draws from: by seed and number alone, so that a search that was killed goes on as it would have."""
    return np.random.default_rng((seed, trial.number, zlib.crc32(name.encode())))


def draw(dimension: BaseDistribution, rng: np.random.Generator) -> Any:
    """A value, all equally likely (of a logarithmic dimension, their logarithms)."""
    if isinstance(dimension, CategoricalDistribution):
        return dimension.choices[rng.integers(len(dimension.choices))]
    return at(dimension, rng.random())


def changed(dimension: BaseDistribution, value: Any, rng: np.random.Generator) -> Any:
    """Another value: of a choice any other one (a flip, where there are two), of a number one near by."""
    if dimension.single():
        return value
    if isinstance(dimension, CategoricalDistribution):
        others = [i for i in range(len(dimension.choices)) if i != dimension.to_internal_repr(value)]
        return dimension.choices[others[rng.integers(len(others))]]
    place = _place(dimension, value)
    for _ in range(20):  # a step of a coarse grid may be wider than the reach
        found = at(dimension, _reflected(place + rng.normal(0, REACH)))
        if found != value:
            return found
    return _next(dimension, value, bool(rng.integers(2)))


def key(space: Space, point: Point) -> tuple[Any, ...]:
    """Equal for candidates that are equal in all dimensions of `space`."""
    return tuple(point[name] for name in space)


def energy(study: Study, trial: FrozenTrial) -> float:
    """What is to become least: a trial's value, its negative where the study maximises; if pruned, its last report.

    inf where it reported nothing. Energies of different rungs are not comparable: see `energies`.
    """
    step = trial.last_step
    value = trial.value if step is None or trial.value is not None else trial.intermediate_values[step]
    if value is None or math.isnan(value):  # pruned before it reported anything
        return math.inf
    return -value if study.direction == StudyDirection.MAXIMIZE else value


def standing(study: Study, trial: FrozenTrial) -> tuple[bool, int, float, int]:
    """What trials are sorted by, best first: completed before pruned, then later before earlier rungs, then by energy.

    A score at an early rung says nothing beside one at the end: a loss may rise between them.
    """
    pruned = trial.state == TrialState.PRUNED
    rung = -1 if trial.last_step is None else trial.last_step
    return pruned, -rung if pruned else 0, energy(study, trial), trial.number


def energies(study: Study, trials: Sequence[FrozenTrial]) -> np.ndarray:
    """[trials] energies by which candidates can be compared: of completed ones their own, of pruned ones above all those.

    Pruned ones follow the worst completed one in the order of their standing, in equal steps, over as much as lies between the
    completed ones.
    """
    found = np.array([energy(study, trial) for trial in trials])
    pruned = np.array([trial.state == TrialState.PRUNED for trial in trials], bool)
    whole = found[~pruned]
    worst, width = (whole.max(), np.ptp(whole) or 1.0) if len(whole) else (0.0, 1.0)
    behind = sorted(np.flatnonzero(pruned).tolist(), key=lambda number: standing(study, trials[number]))
    found[behind] = worst + width * np.arange(1, len(behind) + 1) / max(1, len(behind))
    return found


def finished(study: Study, space: Space, *states: TrialState) -> list[FrozenTrial]:
    """Trials in one of `states` with a value for each dimension, in the order of their numbers."""
    found = study.get_trials(deepcopy=False, states=states or (TrialState.COMPLETE,))
    return [trial for trial in found if space.keys() <= trial.params.keys()]


def best(study: Study, trials: Sequence[FrozenTrial]) -> FrozenTrial:
    """The trial of the best standing, the earliest of several."""
    return min(trials, key=lambda trial: standing(study, trial))


def in_order(space: Space) -> Space:
    """The dimensions that have a choice, by name: neighbours on the string that crossover cuts."""
    return {name: space[name] for name in sorted(space) if not space[name].single()}


def check(rules: dict[str, tuple[bool, str]], config: Any) -> None:
    """Raise ConfigError for the first of a sampler's settings that breaks its rule: whether it holds, and what is wanted."""
    for name, (good, wanted) in rules.items():
        if not good:
            raise ConfigError(f"search.{name} {getattr(config, name)}: {wanted}")


def _scale(dimension: Any) -> tuple[float, float]:
    """Ends of the range, of a logarithmic one in logarithms; of a grid half a step beyond, so that all its points weigh alike."""
    half = (dimension.step or 0) / 2 if isinstance(dimension, (IntDistribution, FloatDistribution)) else 0
    low, high = dimension.low - half, dimension.high + half
    return (math.log(low), math.log(high)) if dimension.log else (low, high)


def _place(dimension: Any, value: float) -> float:
    """Where `value` lies between the ends, 0 to 1."""
    low, high = _scale(dimension)
    return ((math.log(value) if dimension.log else value) - low) / (high - low)


def at(dimension: Any, place: float) -> float | int:
    """The value at `place`, on the grid where there is one."""
    low, high = _scale(dimension)
    value = low + place * (high - low)
    value = math.exp(value) if dimension.log else value
    if dimension.step:
        value = dimension.low + round((value - dimension.low) / dimension.step) * dimension.step
    value = min(max(value, dimension.low), dimension.high)
    return int(value) if isinstance(dimension, IntDistribution) else float(value)


def _next(dimension: Any, value: float, up: bool) -> float | int:
    """The neighbour on a grid, on the other side where there is none."""
    step = dimension.step or (dimension.high - dimension.low) * REACH
    found = value + step if up else value - step
    if not dimension.low <= found <= dimension.high:
        found = value - step if up else value + step
    found = min(max(found, dimension.low), dimension.high)
    return int(found) if isinstance(dimension, IntDistribution) else float(found)


def _reflected(place: float) -> float:
    """`place` thrown back into 0 to 1 at the ends."""
    folded = abs(place) % 2
    return 2 - folded if folded > 1 else folded
