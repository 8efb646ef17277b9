"""Strategies compared: means with intervals, differences with verdicts, ranks (Demsar 2006).

interval   the wider, on each side, of two. A percentile bootstrap over seeds and items at once: a draw takes as many seeds as
           there are, with replacement, and as many items, the same for all seeds and strategies (Efron & Tibshirani 1993); the
           statistic is the mean over seeds. And Student's t over seeds, because a bootstrap of five seeds is too sure of itself
verdict    by the interval of the difference, at a confidence that Bonferroni's correction raises for the number of comparisons
ranks      of each block (a seed on a dataset) the strategies are ranked, 1 the best; Friedman's test of whether they differ at
           all, Nemenyi's of which do. Blocks of one dataset share its test items, so these speak of seeds, not of other datasets
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from nlpft.errors import ConfigError
from nlpft.strategies import _items

Counts = dict[str, np.ndarray]  # by label [seeds, 2, items]


class Summary(NamedTuple):
    """One strategy's measure over seeds."""

    mean: float
    deviation: float  # between seeds, with n - 1
    low: float
    high: float


class Difference(NamedTuple):
    """A strategy less a reference."""

    label: str
    against: str
    mean: float
    low: float  # at the corrected confidence
    high: float

    @property
    def verdict(self) -> str:
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "no difference shown"


class Ranks(NamedTuple):
    """Ranks over blocks."""

    mean: dict[str, float]  # 1: the best of all in every block
    blocks: int
    friedman: float  # p-value that all strategies are alike
    nemenyi: dict[str, dict[str, float]]  # p-value of each pair


def check() -> None:
    """Raise ConfigError where ranks cannot be tested at the end of a run."""
    if find_spec("scikit_posthocs") is None:
        raise ConfigError('ranks are tested by scikit-posthocs: pip install "nlpft[search]"')


def drawn(counts: Counts, resamples: int, seed: int) -> dict[str, np.ndarray]:
    """Means over drawn seeds and items of each strategy, [resamples]; a draw is the same for all of them."""
    seeds, _, items = next(iter(counts.values())).shape
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(items, np.full(items, 1 / items), resamples).T  # [items, resamples]
    picked = rng.integers(0, seeds, (seeds, resamples))
    found = {}
    for label, own in counts.items():
        each = _items.ratio(np.moveaxis(own @ weights, 1, 0))  # [seeds, resamples]
        found[label] = np.take_along_axis(each, picked, 0).mean(0)
    return found


def summaries(counts: Counts, draws: dict[str, np.ndarray], confidence: float) -> dict[str, Summary]:
    found = {}
    for label, own in counts.items():
        values = _items.ratio(np.moveaxis(own.sum(2), 1, 0))
        found[label] = Summary(
            float(values.mean()), float(values.std(ddof=1)), *_bounds(draws[label], values, confidence)
        )
    return found


def differences(
    counts: Counts, draws: dict[str, np.ndarray], against: Sequence[str], confidence: float
) -> list[Difference]:
    """Each strategy against each of `against`, all corrected together."""
    pairs = [(label, other) for other in against for label in counts if label != other]
    strict = 1 - (1 - confidence) / max(1, len(pairs))
    values = {label: _items.ratio(np.moveaxis(own.sum(2), 1, 0)) for label, own in counts.items()}
    found = []
    for a, b in pairs:
        gains = values[a] - values[b]  # [seeds]
        found.append(Difference(a, b, float(gains.mean()), *_bounds(draws[a] - draws[b], gains, strict)))
    return found


def ranks(blocks: Sequence[dict[str, float]]) -> Ranks | None:
    """Ranks of strategies by their values in each block; None where there are fewer than three strategies, or two blocks."""
    labels = list(blocks[0])
    if len(labels) < 3 or len(blocks) < 2:
        return None
    from scikit_posthocs import (
        posthoc_nemenyi_friedman,  # pandas and statsmodels: seconds of import for the end of a run
    )

    values = np.array([[block[label] for label in labels] for block in blocks])
    mean = stats.rankdata(-values, axis=1).mean(0)
    if (np.ptp(values, axis=1) == 0).all():
        alike = dict.fromkeys(labels, 1.0)
        return Ranks(dict(zip(labels, mean.tolist(), strict=True)), len(blocks), 1.0, dict.fromkeys(labels, alike))
    pairs = posthoc_nemenyi_friedman(values).to_numpy()
    nemenyi = {a: dict(zip(labels, map(float, row), strict=True)) for a, row in zip(labels, pairs, strict=True)}
    friedman = float(stats.friedmanchisquare(*values.T).pvalue)
    return Ranks(dict(zip(labels, mean.tolist(), strict=True)), len(blocks), friedman, nemenyi)


def blocks(scores: dict[str, dict[str, float]], labels: Sequence[str], place: str) -> list[dict[str, float]]:
    """Blocks from `scores`, by label and seed. Raises ConfigError where one of `labels` is not in them."""
    missing = [label for label in labels if label not in scores]
    if missing:
        raise ConfigError(f"join {place}: it lacks {', '.join(missing)}; join comparisons of the same strategies")
    seeds = [seed for seed in scores[labels[0]] if all(seed in scores[label] for label in labels)]
    return [{label: scores[label][seed] for label in labels} for seed in seeds]


def as_json(found: Ranks | None) -> Any:
    return found and found._asdict()


def _bounds(drawn: np.ndarray, values: np.ndarray, confidence: float) -> tuple[float, float]:
    """The wider of the interval of draws and that of the values of seeds."""
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(min(low, values.mean() - half)), float(max(high, values.mean() + half))
