"""Early stopping counts evaluations, keeps the best, and survives a resume."""

import math

from nlpft.training.stopping import Best


def feed(best, losses):
    for step, loss in enumerate(losses, 1):
        best.update(step, loss)
    return best


def test_stops_after_patience_evaluations_without_a_better_loss():
    assert not feed(Best(2), [3, 2, 2.5]).stop()
    assert feed(Best(2), [3, 2, 2.5, 2.0]).stop()
    assert not feed(Best(0), [1, 2, 3, 4]).stop()


def test_keeps_the_best_and_nan_is_never_best():
    best = feed(Best(9), [3, math.nan, 1, 2])
    assert (best.step, best.loss, best.waited) == (3, 1, 1)


def test_state_is_restored():
    best = feed(Best(3), [3, 2, 2.5])
    assert Best(3, **best.state()) == best
