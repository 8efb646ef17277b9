"""Selection, crossover and mutation of genetic algorithms (Holland 1975; Goldberg 1989), as pure functions on candidates."""

from collections.abc import Callable, Sequence

import numpy as np

from nlpft.samplers._dimensions import Point, Space, changed

Rng = np.random.Generator
Select = Callable[[np.ndarray, float, Rng], int]
Cross = Callable[[int, Rng], np.ndarray]


def tournament(energies: np.ndarray, pressure: float, rng: Rng) -> int:
    """The best of `pressure` that are drawn (Goldberg & Deb 1991). energies: [candidates], the least is the best."""
    drawn = rng.integers(len(energies), size=max(1, round(pressure)))
    return int(drawn[np.argmin(energies[drawn])])


def roulette(energies: np.ndarray, pressure: float, rng: Rng) -> int:
    """One drawn by its fitness, which is how far it lies below the worst; pressure: exponent of that."""
    fitness = (energies.max() - energies) ** pressure
    total = fitness.sum()
    return int(rng.choice(len(energies), p=fitness / total if total > 0 else None))


def rank(energies: np.ndarray, pressure: float, rng: Rng) -> int:
    """One drawn by its rank (Baker 1985): the best is expected `pressure` times, 1 to 2, the worst 2 - pressure times."""
    count = len(energies)
    places = np.empty(count)
    places[np.argsort(energies, kind="stable")] = np.arange(count)
    chances = pressure - (2 * pressure - 2) * places / max(1, count - 1)
    return int(rng.choice(count, p=chances / chances.sum()))


def one_point(length: int, rng: Rng) -> np.ndarray:
    """[length] bool, whether a gene comes from the second parent: all behind one cut."""
    return np.arange(length) >= rng.integers(1, max(2, length))


def two_point(length: int, rng: Rng) -> np.ndarray:
    """[length] bool, whether a gene comes from the second parent: all between two cuts."""
    first, last = np.sort(rng.integers(0, length + 1, size=2))
    return (np.arange(length) >= first) & (np.arange(length) < last)


def uniform(length: int, rng: Rng) -> np.ndarray:
    """[length] bool, whether a gene comes from the second parent: each with a chance of one half (Syswerda 1989)."""
    return rng.random(length) < 0.5


SELECT: dict[str, Select] = {"tournament": tournament, "roulette": roulette, "rank": rank}
CROSS: dict[str, Cross] = {"one_point": one_point, "two_point": two_point, "uniform": uniform}


def crossed(space: Space, one: Point, other: Point, from_other: np.ndarray) -> Point:
    """A child of two parents. from_other: [dimensions] bool."""
    return {name: (other if second else one)[name] for name, second in zip(space, from_other, strict=True)}


def mutated(space: Space, point: Point, rate: float, rng: Rng) -> Point:
    """`point`, each of whose values is changed with a chance of `rate`."""
    hit = rng.random(len(space)) < rate
    return {
        name: changed(space[name], point[name], rng) if now else point[name]
        for name, now in zip(space, hit, strict=True)
    }


def adaptive_rate(own: float, energies: Sequence[float] | np.ndarray, low: float, high: float) -> float:
    """Mutation rate for a child of a parent of energy `own` (Srinivas & Patnaik 1994): the better it is, the less is changed.

    `high` for what is no better than the mean, `low` for the best; `high` too where all are equal, as nothing else would move.
    """
    least, mean = float(np.min(energies)), float(np.mean(energies))
    if own >= mean or mean <= least:
        return high
    return max(low, high * (own - least) / (mean - least))
