"""Statistics of paired differences, against scipy and against numbers worked out by hand."""

import numpy as np
import pytest
from scipy import stats

from nlpft.evaluation import statistics


def test_mcnemar_is_exact():
    by_hand = 2 * (1 + 12 + 66) / 2**12  # twelve items changed, two of them in one direction
    assert statistics.mcnemar(2, 10) == pytest.approx(by_hand)
    assert statistics.mcnemar(2, 10) == stats.binomtest(2, 12, 0.5).pvalue
    assert statistics.mcnemar(0, 0) == 1.0


def test_sign_flip_is_scipys_permutation_test():
    gains = np.array([0.9, -0.1, 0.7, 0.4, 1.2, -0.3, 0.8, 0.2, 0.5])
    exact = stats.permutation_test((gains,), np.sum, permutation_type="samples", n_resamples=2**9).pvalue
    assert statistics.sign_flip(gains, resamples=50_000) == pytest.approx(exact, abs=0.003)


def test_holm_by_hand():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.6, 0.9]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_few_items_are_flipped_in_every_way():
    assert statistics.sign_flip(np.array([1.0, 2.0, 0.0, 0.5])) == 2 / 2**3  # no other signs give as much, or as little
    assert statistics.sign_flip(np.array([1.0] * 16)) == 2 / 2**16
    assert statistics.sign_flip(np.zeros(5)) == 1.0


def test_score_interval_is_tangos():
    """Newcombe's example (1998, Statistics in Medicine 17, 2635) as Tango's interval, without the correction."""
    uncorrected = statistics._correction
    statistics._correction = lambda base_only, other_only: 0.0
    try:
        assert statistics.paired_proportions(2, 12, 50, 0.95) == pytest.approx((0.0611, 0.3447), abs=5e-5)
    finally:
        statistics._correction = uncorrected


@pytest.mark.parametrize(
    ("base_only", "other_only", "difference"), [(2, 12, -0.1), (7, 1, 0.05), (0, 3, 0.4), (4, 4, 0.0)]
)
def test_error_under_a_difference_is_that_of_the_likeliest_shares(base_only, other_only, difference):
    items = 50
    lost = np.linspace(max(0, -difference), (1 - difference) / 2, 200_001)[1:-1]
    gained = lost + difference
    keep = gained > 0
    lost, gained = lost[keep], gained[keep]
    rest = 1 - lost - gained
    likelihood = base_only * np.log(lost) + other_only * np.log(gained)
    likelihood += (items - base_only - other_only) * np.log(np.maximum(rest, 1e-300))
    best = likelihood.argmax()
    variance = items * (lost[best] + gained[best] - difference**2)
    assert statistics._score_error(base_only, other_only, items, difference) == pytest.approx(variance**0.5, rel=1e-3)


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95, 0.99])
def test_interval_excludes_no_difference_when_and_only_when_the_exact_test_does(confidence):
    counts = [(b, c) for b in range(14) for c in range(26)] + [
        (40, 62),
        (40, 60),
        (150, 100),
        (1000, 1090),
        (1000, 1091),
    ]
    for base_only, other_only in counts:
        low, high = statistics.paired_proportions(base_only, other_only, 60 + 4 * (base_only + other_only), confidence)
        excluded = statistics.mcnemar(base_only, other_only) <= 1 - confidence + 1e-12
        assert (low > 0 or high < 0) == excluded, (base_only, other_only)
        assert low <= (other_only - base_only) / (60 + 4 * (base_only + other_only)) <= high


def test_interval_of_other_against_base_mirrors_that_of_base_against_other():
    low, high = statistics.paired_proportions(3, 9, 80, 0.95)
    assert statistics.paired_proportions(9, 3, 80, 0.95) == pytest.approx((-high, -low), abs=1e-9)


@pytest.mark.parametrize(("items", "low", "high"), [(3, -0.708, 0.708), (120, -0.030, 0.030)])
def test_items_of_which_none_changed_leave_a_doubt(items, low, high):
    assert statistics.paired_proportions(0, 0, items, 0.95) == pytest.approx((low, high), abs=5e-4)


def test_items_that_all_changed_leave_a_doubt():
    low, high = statistics.paired_proportions(0, 120, 120, 0.95)
    assert 0.92 < low < 0.98
    assert high == pytest.approx(1)
    assert statistics.paired_proportions(0, 3, 3, 0.95)[0] < 0  # the exact p-value is 0.25


def test_so_few_changes_cannot_be_significant():
    assert statistics.countable(5, 0.05) == 1.0
    share = statistics.countable(50, 0.05)  # six changes, all one way: 2 / 2**6 <= 0.05
    assert stats.binom.sf(5, 50, share) == pytest.approx(0.8)


def test_few_kinds_of_items_are_drawn_as_scipy_draws_items():
    gains = np.array([1.0] * 30 + [-1.0] * 12 + [0.0] * 58)
    drawn = statistics.bootstrap(gains, np.ones(100), resamples=40_000)
    reference = stats.bootstrap((gains,), np.mean, n_resamples=40_000, rng=1).bootstrap_distribution
    assert drawn.shape == (40_000,)
    assert np.quantile(drawn, [0.025, 0.5, 0.975]) == pytest.approx(
        np.quantile(reference, [0.025, 0.5, 0.975]), abs=0.011
    )
    assert drawn.std() == pytest.approx(reference.std(), rel=0.02)


def test_items_are_drawn_with_their_weights():
    gains, weights = np.array([3.0, -1.0] * 20), np.array([1.0, 9.0] * 20)
    drawn = statistics.bootstrap(gains, weights, resamples=20_000)
    assert np.median(drawn) == pytest.approx(40 / 200, abs=0.01)
    by_hand = np.random.default_rng(1).integers(0, 40, (20_000, 40))
    assert drawn.std() == pytest.approx((gains[by_hand].sum(1) / weights[by_hand].sum(1)).std(), rel=0.03)


def test_detectable_by_hand():
    assert statistics.detectable(1.0, 0.05) == pytest.approx(1.95996 + 0.84162, abs=1e-4)


def test_values_are_summed_by_cluster():
    assert statistics.by_cluster(np.array([1.0, 2.0, 4.0]), np.array([0, 1, 0])).tolist() == [5.0, 2.0]
