"""Statistics of paired differences: one number for each item, second answer against first. Loads no torch.

interval        paired bootstrap over items, percentile method (Efron & Tibshirani 1993, chapter 13)
p-value         0/1 metrics: McNemar's test, exact (McNemar 1947); others: sign-flip permutation test (Fisher 1935), with
                the observed signs counted among the permutations (Phipson & Smyth 2010)
several tests   Holm's step-down correction (Holm 1979)
power           the smallest true difference that such a test finds four times in five (Bloom 1995; Card et al. 2020)
clusters        items that belong together count as one, drawn and flipped as a whole (Cameron, Gelbach & Miller 2008)
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

POWER = 0.8
DRAWS_AT_ONCE = 2_000_000  # items drawn in one batch of resamples: 16 MB of indices


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given: reject where one is at most alpha (Holm 1979)."""
    adjusted, floor = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(np.argsort(p_values, kind="stable")):
        floor = max(floor, (len(p_values) - rank) * p_values[i])
        adjusted[i] = min(1.0, floor)
    return adjusted


def detectable(standard_error: float, alpha: float) -> float:
    """The true difference that a two-sided test at level `alpha` finds with 80 % power, in the unit of `standard_error`."""
    return float(standard_error * (stats.norm.isf(alpha / 2) + stats.norm.ppf(POWER)))


def mcnemar(base_only: int, other_only: int) -> float:
    """Exact two-sided p-value that items change in both directions alike (McNemar 1947)."""
    changed = base_only + other_only
    return float(stats.binomtest(base_only, changed, 0.5).pvalue) if changed else 1.0


def sign_flip(gains: np.ndarray, seed: int = 0, resamples: int = 10_000) -> float:
    """Two-sided p-value that the differences `gains` [items] are symmetric about 0, from random signs.

    The test of scipy's `permutation_test(permutation_type="samples")`, which at 10,000 items takes 14 s against 0.6 s here.
    """
    rng = np.random.default_rng(seed)
    bound = abs(gains.sum()) * (1 - 1e-12)  # sums in another order may end in another last digit
    reached, batch = 1, max(1, DRAWS_AT_ONCE // len(gains))
    for start in range(0, resamples, batch):
        signs = 2.0 * rng.integers(0, 2, (min(batch, resamples - start), len(gains)), dtype=np.int8) - 1
        reached += int((abs(signs @ gains) >= bound).sum())
    return reached / (resamples + 1)


def bootstrap(gains: np.ndarray, weights: np.ndarray, seed: int = 0, resamples: int = 10_000) -> np.ndarray:
    """sum(gains) / sum(weights) of `resamples` draws of as many items as there are, each with all it has; [resamples].

    `gains` and `weights` are [items], which are not all the same. Few different items are drawn by their kinds: the same
    distribution, without the time.
    """
    kinds, counts = np.unique(np.stack([gains, weights]), axis=1, return_counts=True)
    if len(counts) <= 8:
        drawn = np.random.default_rng(seed).multinomial(len(gains), counts / len(gains), resamples)
        return (drawn @ kinds[0]) / (drawn @ kinds[1])
    batch = max(1, DRAWS_AT_ONCE // len(gains))
    return stats.bootstrap(
        (gains, weights), lambda g, w, axis: g.sum(axis) / w.sum(axis), paired=True, vectorized=True, method="percentile",
        n_resamples=resamples, batch=batch, rng=seed,
    ).bootstrap_distribution  # fmt: skip


def unanimous(gains: np.ndarray, confidence: float) -> tuple[float, float]:
    """Interval of the mean of `gains` [items], all -1, all 0 or all 1: drawing such items again shows no doubt at all.

    What is left is the share of items that would not have agreed (Clopper & Pearson 1934).
    """
    agreeing = stats.binomtest(len(gains), len(gains)).proportion_ci(confidence).low
    gain = float(gains[0])
    return (
        (gain * agreeing, gain) if gain > 0 else (gain, gain * agreeing) if gain < 0 else (agreeing - 1, 1 - agreeing)
    )


def by_cluster(values: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Sums of `values` [items] by cluster, [clusters]; `clusters` [items] numbers them from 0."""
    return np.bincount(clusters, values)
