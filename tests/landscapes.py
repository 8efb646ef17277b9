"""Landscapes on strings of bits whose optimum is known, to be maximised: what the tests of searches climb."""

import numpy as np
from optuna.distributions import CategoricalDistribution


def bits(count: int) -> dict:
    """A space of `count` bits."""
    return {f"bit{number:02}": CategoricalDistribution((0, 1)) for number in range(count)}


def string(point: dict) -> np.ndarray:
    return np.array([point[name] for name in sorted(point)])


def onemax(point: dict) -> float:
    """The number of ones; best where all are."""
    return float(string(point).sum())


def trap(point: dict) -> float:
    """Blocks of four that lead away from all ones, which is best of all (Goldberg 1987): 4, else 3 less the ones."""
    ones = string(point).reshape(-1, 4).sum(1)
    return float(np.where(ones == 4, 4, 3 - ones).sum())


def royal_road(point: dict) -> float:
    """Blocks of four that count only when they are whole (Mitchell et al. 1992); the ones stand for a slight slope."""
    ones = string(point).reshape(-1, 4).sum(1)
    return float((ones == 4).sum() * 4 + 0.1 * ones.sum())


def nk(count: int, k: int, seed: int = 0):
    """Kauffman's NK landscape (1989): a mean of `count` numbers, each by a bit and the `k` behind it; and its optimum."""
    tables = np.random.default_rng(seed).random((count, 2 ** (k + 1)))
    weights = 2 ** np.arange(k + 1)

    def fitness(point: dict) -> float:
        own = string(point)
        places = np.stack([np.roll(own, -shift) for shift in range(k + 1)], 1) @ weights
        return float(tables[np.arange(count), places].mean())

    names = list(bits(count))
    best = max(fitness(dict(zip(names, map(int, f"{n:0{count}b}"), strict=True))) for n in range(2**count))
    return fitness, best


def overfitted(point: dict, step: int) -> float:
    """A loss at a step, better at each for more ones, which falls up to step 25 and rises behind it."""
    share = string(point).mean()
    return float(0.7 - 0.1 * share * min(step, 25) / 25 + 0.2 * max(0, step - 25) / 50)
