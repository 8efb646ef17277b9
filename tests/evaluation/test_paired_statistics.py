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


@pytest.mark.parametrize(("gain", "low", "high"), [(1, 0.970, 1), (-1, -1, -0.970), (0, -0.030, 0.030)])
def test_items_that_all_agree_leave_a_doubt(gain, low, high):
    assert statistics.unanimous(np.full(120, gain), 0.95) == pytest.approx((low, high), abs=5e-4)


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
