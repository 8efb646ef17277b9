"""Searches with literal settings, run in memory: what the tests of samplers and studies share."""

from dataclasses import replace

import optuna
from optuna.study import Study

from nlpft import plugins
from nlpft.search import rungs
from nlpft.search.study import Found, open_study, run

optuna.logging.set_verbosity(optuna.logging.ERROR)


def sampler(name: str, space: dict, budget: int, seed: int = 0, **settings):
    module = plugins.load("samplers", name)
    return module.build(replace(module.Config(), **settings), seed, budget, space)


def searched(name: str, space: dict, fitness, budget: int, seed: int = 0, path=None, **settings) -> Found:
    """What sampler `name` finds for `fitness(point)`, which is to become most, in `budget` candidates."""
    study = open_study(path, space, sampler(name, space, budget, seed, **settings), direction="maximize")
    return run(study, space, lambda trial, point: fitness(point), budget)


def pruned(name: str, space: dict, curve, budget: int, steps: int, seed: int = 0, **settings) -> tuple[Found, Study]:
    """What sampler `name` finds for `curve(point, step)`, which is to become least at `steps`, with successive halving."""
    places = rungs.rungs(steps, 5, below=3)
    study = open_study(None, space, sampler(name, space, budget, seed, **settings), rungs.pruner(places))

    def score(trial, point):
        for step in places:
            trial.report(curve(point, step), step)
            if step < steps and trial.should_prune():
                raise optuna.TrialPruned
        return curve(point, steps)

    return run(study, space, score, budget), study
