"""Schedules: functions of the step alone, with the rate that their names promise."""

import pytest
import tiny

from nlpft.errors import ConfigError
from nlpft.training.optim import SCHEDULES, OptimConfig, build_optimizer, learning_rate


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup", [0, 0.1, 7])
def test_rises_to_the_peak_then_never_rises(schedule, warmup):
    rate = learning_rate(OptimConfig(lr=2.0, schedule=schedule, warmup=warmup), 100)
    rates = [rate(step) for step in range(1, 101)]
    steps = 10 if warmup == 0.1 else warmup
    assert rates[:steps] == pytest.approx([2.0 * s / steps for s in range(1, steps + 1)])
    assert max(rates) == rates[steps] == 2.0
    assert all(a >= b for a, b in zip(rates[steps:], rates[steps + 1 :], strict=False))
    assert all(r > 0 for r in rates)
    assert rates[-1] < 0.05 or schedule == "constant"


def test_linear_is_halfway_at_half_time():
    rate = learning_rate(OptimConfig(lr=1.0, schedule="linear", warmup=0), 100)
    assert rate(51) == pytest.approx(0.5)


def test_vectors_do_not_decay():
    groups = build_optimizer(tiny.make_model(), OptimConfig(weight_decay=0.1)).param_groups
    assert {p.ndim >= 2: g["weight_decay"] for g in groups for p in g["params"]} == {True: 0.1, False: 0.0}


@pytest.mark.parametrize("config", [OptimConfig(lr=0), OptimConfig(lr=float("nan")), OptimConfig(warmup=-1)])
def test_rates_that_train_nothing_are_refused(config):
    with pytest.raises(ConfigError, match=r"optim\."):
        build_optimizer(tiny.make_model(), config)
