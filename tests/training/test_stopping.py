"""Early stopping counts evaluations, keeps the best, and survives a resume."""

import math
from types import SimpleNamespace

from nlpft.training.run import Run
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


def test_a_run_of_which_no_evaluation_gave_a_number_says_that_the_last_weights_stay():
    said = []
    Run.take_best(SimpleNamespace(best=feed(Best(), [math.nan] * 3), log=SimpleNamespace(say=said.append)))
    assert said == ["none of 3 evaluations gave a number: there is no best step, the last weights stay"]
    Run.take_best(SimpleNamespace(best=Best(), log=SimpleNamespace(say=said.append)))
    assert len(said) == 1  # without held-out data there is nothing to say
