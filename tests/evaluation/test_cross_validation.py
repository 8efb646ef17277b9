"""Intervals over folds are wider than those of independent runs, and hold the mean as often as they say."""

import pytest
from scipy import stats

from nlpft.evaluation.cross_validation import spread, table


def test_the_variance_is_corrected_for_shared_training_rows():
    found = spread([0.8, 0.9, 0.85, 0.75, 0.95], 0.25)
    assert (found.mean, found.deviation) == (pytest.approx(0.85), pytest.approx(0.00625**0.5))
    assert found.error == pytest.approx((0.00625 * (1 / 5 + 1 / 4)) ** 0.5)
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, 4) * found.error)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_without_shared_rows_it_is_students_interval():
    values = [0.8, 0.9, 0.85, 0.75]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    found = spread(values, 0.0, 0.9)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_a_measure_is_a_line_with_each_fold_in_it():
    lines = table({"accuracy": spread([0.5, 0.75], 1.0)})
    assert lines[0] == "| measure | mean | deviation | 95 % interval | fold 0 | fold 1 |"
    assert lines[2].startswith("| accuracy | 0.6250 | 0.1768 | ")
    assert lines[2].endswith(" | 0.5000 | 0.7500 |")
