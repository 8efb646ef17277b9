"""Schedules: functions of the step alone, with the rate that their names promise."""

import itertools
import math

import pytest

from nlpft.errors import ConfigError
from nlpft.training.optim import OptimConfig, learning_rate
from nlpft.training.schedules import SCHEDULES


def rates(steps=100, **settings):
    rate = learning_rate(OptimConfig(**{"lr": 2.0, "warmup": 0, **settings}), steps)
    return [rate(step) for step in range(1, steps + 1)]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("warmup", "steps"), [(0, 0), (0.1, 10), (7, 7)])
def test_rises_to_the_peak_and_stays_between_it_and_zero(schedule, warmup, steps):
    got = rates(schedule=schedule, warmup=warmup)
    assert got[:steps] == pytest.approx([2.0 * s / steps for s in range(1, steps + 1)])
    assert max(got) == got[steps] == 2.0
    assert all(r > 0 for r in got)


@pytest.mark.parametrize("schedule", [name for name in SCHEDULES if name != "cosine_restarts"])
def test_never_rises_behind_the_peak(schedule):
    got = rates(schedule=schedule, warmup=7)[7:]
    assert all(a >= b for a, b in itertools.pairwise(got))


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd", "cosine_restarts"])
def test_ends_near_zero(schedule):
    assert rates(schedule=schedule)[-1] < 0.13


def test_linear_is_halfway_at_half_time():
    assert rates(schedule="linear")[50] == pytest.approx(1.0)


def test_restarts_begin_every_cycle_at_the_highest_rate():
    got = rates(schedule="cosine_restarts", cycles=4)
    assert [n for n in range(1, 100) if got[n] > got[n - 1]] == [25, 50, 75]
    assert [got[n] for n in (25, 50, 75)] == pytest.approx([2.0, 2.0, 2.0])


def test_exponential_falls_by_one_factor_a_step_to_its_end():
    got = rates(schedule="exponential", end=0.01)
    assert [b / a for a, b in itertools.pairwise(got)] == pytest.approx([0.01**0.01] * 99)


def test_inverse_sqrt_halves_when_the_steps_are_four_times_the_warm_up():
    rate = learning_rate(OptimConfig(lr=2.0, schedule="inverse_sqrt", warmup=10), 100)
    assert rate(11) == 2.0
    assert rate(41) == pytest.approx(1.0)
    assert rate(91) == pytest.approx(2 / math.sqrt(9))


def test_wsd_is_stable_until_its_cooldown_and_then_a_line():
    got = rates(schedule="wsd", cooldown=0.2)
    assert got[:80] == [2.0] * 80
    assert got[80:] == pytest.approx([2.0 * (1 - n / 20) for n in range(20)])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"warmup": 10}, "optim.warmup 10: the run has 10 steps"),
        ({"schedule": "cosine_restarts", "cycles": 11}, "optim.cycles 11: the run has 10 steps"),
    ],
)
def test_what_is_longer_than_the_run_is_refused(settings, named):
    with pytest.raises(ConfigError, match=named):
        rates(10, **settings)


def test_a_run_of_one_step_has_its_highest_rate():
    assert rates(1, warmup=0.03) == [2.0]
