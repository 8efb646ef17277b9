"""Who watches a run is told its evaluations and can end it; nobody else is told."""

import pytest

from nlpft.training.watching import tell, watched


def test_evaluations_are_told_within_and_not_behind():
    heard = []
    with watched(lambda *told: heard.append(told)):
        tell(1, 9, 0.5)
    tell(2, 9, 0.4)
    assert heard == [(1, 9, 0.5)]


def test_what_the_watch_raises_ends_the_run_and_the_one_before_hears_again():
    heard = []

    def stop(*told):
        raise StopIteration

    with watched(lambda *told: heard.append(told)):
        with pytest.raises(StopIteration), watched(stop):
            tell(1, 9, 0.5)
        tell(3, 9, 0.3)
    assert heard == [(3, 9, 0.3)]
