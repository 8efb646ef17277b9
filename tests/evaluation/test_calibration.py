"""Calibration by hand, and a temperature that undoes one."""

import numpy as np
import pytest

from nlpft.evaluation.calibration import expected_calibration_error, probabilities, reliability, temperature


def test_the_error_is_the_mean_distance_of_accuracy_from_confidence():
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.3, 0.7]])
    targets = np.array([0, 1, 1, 0])
    # Bins of a tenth: confidence 0.9, half right; 0.6, right; 0.7, wrong.
    assert expected_calibration_error(p, targets, bins=10) == pytest.approx((2 * 0.4 + 0.4 + 0.7) / 4)
    assert [(b.rows, b.accuracy) for b in reliability(p, targets, bins=10)] == [(1, 1.0), (1, 0.0), (2, 0.5)]


def test_certainty_falls_into_the_last_bin():
    assert reliability(np.array([[1.0, 0.0]]), np.array([0]), bins=10)[0].low == 0.9


def test_a_confidence_at_a_border_belongs_below_it():
    assert reliability(np.array([[0.5, 0.5]]), np.array([0]), bins=2)[0].high == 0.5


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_a_scale_of_logits(scale):
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(4000, 3)) * 2
    targets = np.array([draw.choice(3, p=p) for p in probabilities(logits)])
    found = temperature(scale * logits, targets)
    assert found == pytest.approx(scale, rel=0.1)
    before, after = (expected_calibration_error(probabilities(scale * logits, t), targets) for t in (1.0, found))
    assert after <= before + 1e-3
    assert (probabilities(scale * logits, found).argmax(1) == logits.argmax(1)).all()
