"""A candidate of a search over settings, scored by a whole run of a recipe (nlpft/training/runs.py), which may be cut short."""

from collections.abc import Callable
from pathlib import Path

import optuna

from nlpft.samplers._dimensions import Point
from nlpft.training.runs import Cost, Recipe, trained

PARTS = 90  # of a run, in which its evaluations are counted: runs of other batch sizes have other numbers of steps


def scorer(
    recipe: Recipe, runs: Path, cost: Cost, shown: Callable[[float], float]
) -> Callable[[optuna.Trial, Point], float]:
    """What scores a trial, for `nlpft.search.study.run`, and says on the screen how it went.

    runs: folder of the runs. cost: as for `trained`. shown: the measure as users know it, of its cost; the trial keeps it as an
    attribute under the measure's name.
    """

    def say(trial: optuna.Trial, cost: float, more: str) -> None:
        trial.set_user_attr(recipe.measure, shown(cost))
        print(f"{trial.number:4}  {recipe.measure} {shown(cost):.4f}  {more}", flush=True)

    def score(trial: optuna.Trial, point: Point) -> float:
        told: list[tuple[int, int, float]] = []

        def watch(step: int, whole: int, low: float) -> None:
            told.append((step, whole, low))
            trial.report(low, PARTS * step // whole)
            if step < whole and trial.should_prune():
                raise optuna.TrialPruned

        try:
            value = trained(recipe, runs / f"{trial.number:04}", point, recipe.base.seed, cost, watch=watch)
        except optuna.TrialPruned:
            step, whole, low = told[-1]
            say(trial, low, f"{point}  pruned at step {step} of {whole}")
            raise
        except Exception as error:
            print(f"{trial.number:4}  failed  {point}  {type(error).__name__}: {error}", flush=True)
            raise
        say(trial, value, str(point))
        return value

    return score
