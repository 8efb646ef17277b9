"""The teacher's weight goes on as its schedule says."""

import pytest

from nlpft.distillation.settings import DistillationConfig, weight_at


@pytest.mark.parametrize(
    ("schedule", "until", "expected"),
    [
        ("constant", 1.0, [0.8, 0.8, 0.8, 0.8]),
        ("constant", 0.5, [0.8, 0.8, 0.0, 0.0]),
        ("linear", 1.0, [0.8, 0.6, 0.4, 0.2]),
        ("linear", 0.5, [0.8, 0.4, 0.0, 0.0]),
        ("cosine", 1.0, [0.8, 0.6828427, 0.4, 0.1171573]),
    ],
)
def test_the_weight_of_each_step(schedule, until, expected):
    config = DistillationConfig(weight=0.8, schedule=schedule, until=until)
    assert [weight_at(config, step, 4) for step in (1, 2, 3, 4)] == pytest.approx(expected)


def test_a_step_that_is_tried_before_the_run_weighs_what_the_first_does():
    config = DistillationConfig(weight=0.8, schedule="linear")
    assert weight_at(config, 0, 4) == 0.8
