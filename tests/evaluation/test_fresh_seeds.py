"""Fresh seeds give a mean with an interval, and a difference counts only where its interval leaves 0 out."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from nlpft.evaluation.fresh_seeds import gap, once, shown, summary, verdict


def test_the_interval_is_students():
    found = summary([1.0, 2.0, 3.0])
    assert (found["mean"], found["seeds"]) == (2.0, [1.0, 2.0, 3.0])
    assert found["high"] == pytest.approx(2 + 4.3027 / 3**0.5, abs=1e-3)
    assert found["low"] == pytest.approx(2 - 4.3027 / 3**0.5, abs=1e-3)
    assert summary([1.0])["low"] is None


def test_a_difference_is_paired_by_seed():
    """The seeds differ by far more than the settings, which differ alike on each."""
    assert gap([1.0, 5.0, 9.1], [1.2, 5.2, 9.3])["settled"]
    assert not gap([1.0, 5.0, 9.1], [5.2, 9.3, 1.2])["settled"]
    assert not gap([1.0], [2.0])["settled"]


def test_the_verdict_claims_nothing_that_is_not_shown():
    assert verdict("winner", "plain", gap([1.0, 5.0, 9.1], [1.2, 5.2, 9.3])).endswith("better")
    assert verdict("winner", "plain", gap([1.2, 5.2, 9.3], [1.0, 5.0, 9.1])).endswith("worse")
    assert "no difference is shown" in verdict("winner", "plain", gap([1.0, 5.0], [5.2, 1.3]))
    assert "settles nothing" in verdict("winner", "plain", gap([1.0], [5.2]))


def test_of_a_measure_that_is_better_when_high_more_is_better():
    assert verdict("winner", "plain", gap([1.2, 5.2, 9.3], [1.0, 5.0, 9.1]), lower=False).endswith("better")
    assert verdict("winner", "plain", gap([1.0, 5.0, 9.1], [1.2, 5.2, 9.3]), lower=False).endswith("worse")
    assert (shown("accuracy", -0.6), shown("loss", 0.6)) == (0.6, 0.6)


def test_what_is_kept_is_not_run_again_and_anything_else_is(tmp_path):
    begun = []

    def run(place):
        begun.append(place)
        return float(len(begun))

    assert [once(tmp_path, {"seed": seed}, run) for seed in (1, 2, 1)] == [1.0, 2.0, 1.0]
    assert len(set(begun)) == 2


def test_two_at_once_share_a_run_and_its_folder_is_one_s_alone(tmp_path):
    begun, both = [], threading.Barrier(2)

    def run(place):
        begun.append(place)
        return 1.0

    def call(_):
        both.wait()
        return once(tmp_path, {"seed": 1}, run)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(call, range(2))) == [1.0, 1.0]
    assert len(begun) == 1
