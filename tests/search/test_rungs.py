"""Where candidates are compared: a third of the way from each other, never before the least number of steps."""

import optuna
import pytest
from optuna.pruners import NopPruner

from nlpft.search.rungs import pruner, rungs


@pytest.mark.parametrize(
    ("steps", "least", "wanted"),
    [
        (90, 1, [10, 30, 90]),
        (75, 10, [10, 30, 75]),
        (75, 20, [20, 75]),
        (50, 5, [5, 15, 50]),
        (300, 5, [12, 36, 108, 300]),
        (40, 20, [20, 40]),
        (10, 10, [10]),
        (1, 1, [1]),
    ],
)
def test_rungs_are_thirds_of_each_other_and_none_comes_too_early(steps, least, wanted):
    assert rungs(steps, least, below=3 if least == 5 else 2) == wanted  # 3: one more than else


def test_where_nothing_comes_before_the_end_nothing_is_pruned():
    assert isinstance(pruner([10]), NopPruner)


def test_the_better_third_goes_on_from_each_rung():
    study = optuna.create_study(pruner=pruner([10, 30, 75]))
    seen = []

    def score(trial):
        for step in (10, 30, 75):
            trial.report(float(trial.number), step)
            seen.append((trial.number, step))
            if step < 75 and trial.should_prune():
                raise optuna.TrialPruned
        return float(trial.number)

    study.optimize(score, n_trials=9)
    assert [step for number, step in seen if number == 0] == [10, 30, 75]
    assert [step for number, step in seen if number == 8] == [10]
