"""A recipe's settings searched: learning rate, batch, schedule, rank and targets of LoRA, dropout, or any others, by whole runs.

nlpft train tune --settings classify.yaml --test data/mine/test --space "optim.lr=1e-5..1e-3:log" "tuning.rank=4|16|64"
nlpft train --num_processes 1 tune --workers 4 ...       four GPUs, one run on each; the same call again goes on after a kill
"""

import json
import statistics
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna

from nlpft import cli, config
from nlpft.config import module_of, plugin
from nlpft.data import examples
from nlpft.data.examples import ExamplesConfig
from nlpft.errors import ConfigError
from nlpft.evaluation import fresh_seeds, head_scores
from nlpft.evaluation.fresh_seeds import shown
from nlpft.evaluation.head_scores import LOWER
from nlpft.files import write_text
from nlpft.samplers._dimensions import Point
from nlpft.search import ranges, rungs, study, workers
from nlpft.training import run_trials
from nlpft.training.runs import Recipe, contents, trained


@dataclass(frozen=True)
class Config:
    settings: Path = Path()
    """Settings that all runs begin from, as YAML for the recipe, with data.train and data.eval, by which the search is led."""
    test: Path = Path()
    """Dataset that no candidate sees: on it the winner is scored, and the settings as they were given."""
    space: tuple[str, ...] = ()
    """Settings that are searched, each with its range: "optim.lr=1e-5..1e-3:log" "data.rows_per_step=8|16" "epochs=1..3:0.5"."""
    recipe: str = "classify"
    """Recipe that is run: classify, tag, sft, pretrain, or a .py file of your own like them."""
    output_dir: Path = Path("runs/tune")
    """Holds search.db, the study, which Optuna's dashboard opens (it has measures that are better when high as their negative,
    and as an attribute by name); result.json; winner.yaml, the settings for --config; base.json, what all runs began from."""
    budget: int = 30
    """Candidates that are scored, of all workers together."""
    workers: int = 1
    """Processes that search together; on GPUs one for each."""
    prune: bool = True
    """Whether the worse two thirds of the candidates end at a ninth, and at a third, of their run (successive halving), as far
    as the settings have evaluations there (eval_every)."""
    finalists: int = 3
    """How many of the best candidates are run again, with fresh seeds; the winner is the best of them by its mean."""
    seeds: int = 3
    """Fresh seeds of each finalist on data.eval, and as many others of the winner, and the settings as given, on `test`."""
    seed: int = 0
    """Of the search."""
    search: Any = plugin("samplers", "tpe")


def main(cfg: Config) -> dict[str, Any]:
    """Search as `cfg` says, and find out what the winner is worth; returns what result.json holds."""
    recipe = Recipe(cfg.recipe, cfg.settings)
    check(cfg, recipe)
    searched, space = opened(cfg, recipe)
    study.keep_settings(cfg, ("budget", "workers", "finalists", "seeds", "test", "output_dir"))
    if cfg.workers > 1:
        workers.together(work, [cfg], cfg.workers)
    found = search(cfg, recipe, searched, space)
    print(f"{found.scored} candidates, {found.copies} proposed again: {found.why}")

    # the winner: the best by its mean over fresh seeds on data.eval, for one seed alone may have been lucky
    first = recipe.base.seed + 1
    candidates = study.results(searched)
    points = [trial.params for trial in candidates[: cfg.finalists]]
    finals = [(point, again(cfg, recipe, point, range(first, first + cfg.seeds))) for point in points]
    finals.sort(key=lambda final: shown(recipe.measure, sum(final[1])))
    winner = finals[0][0]
    recipe.write(cfg.output_dir / "winner.yaml", winner)
    print(f"mean {recipe.measure} on data.eval with {cfg.seeds} fresh seeds, which chose the winner:")
    for point, values in finals:
        print(f"  {statistics.mean(values):.4f}  {point}{'  winner' if point is winner else ''}")

    # what it is worth: on data by which nothing was chosen, with seeds that chose nothing, beside the settings as given
    seeds = range(first + cfg.seeds, first + 2 * cfg.seeds)
    test = {name: again(cfg, recipe, point, seeds, cfg.test) for name, point in (("winner", winner), ("given", {}))}
    gap = fresh_seeds.gap(test["winner"], test["given"])
    name = f"winner, {recipe.measure} on {cfg.test}"
    print(fresh_seeds.verdict(name, "the settings as given", gap, recipe.measure in LOWER))
    result: dict[str, Any] = {"measure": recipe.measure, "winner": winner, "scored": found.scored}
    result |= {
        "finalists": [{"eval": fresh_seeds.summary(values), **point} for point, values in finals],
        "test": {name: fresh_seeds.summary(values) for name, values in test.items()} | {"gap": gap},
        "candidates": [{"score": shown(recipe.measure, one.value or 0.0), **one.params} for one in candidates],
    }
    write_text(cfg.output_dir / "result.json", json.dumps(result, indent=2) + "\n")
    return result


def again(cfg: Config, recipe: Recipe, point: Point, seeds: Iterable[int], test: Path | None = None) -> list[float]:
    """The measure of `point` with each of `seeds`, on data.eval or on `test`; what is kept of it is not run again."""
    about = {"point": point, "test": test, "contents of test": test and contents(test), "base": recipe.facts()}
    run = partial(trained, recipe, point=point, cost=fresh_seeds.cost, test=test)
    final = partial(fresh_seeds.once, cfg.output_dir / "runs/final")
    return [shown(recipe.measure, final({"seed": seed, **about}, partial(run, seed=seed))) for seed in seeds]


def check(cfg: Config, recipe: Recipe) -> None:
    """Raise UserError for what would come to light behind a run only."""
    workers.check(cfg.workers)
    if cfg.prune and not recipe.base.eval_every:
        raise ConfigError(f"{cfg.settings}: set eval_every, or take --no_prune: a run is not known before its end")
    space = ranges.space_of(cfg.space, recipe.flat)
    if "best" in space:
        raise ConfigError("space best: candidates of several measures cannot be compared; set one in the settings")
    if cfg.finalists < 1 or cfg.seeds < 2 or cfg.budget < 1 or cfg.seed < 0:
        raise ConfigError(
            "finalists and budget: at least 1; seeds: at least 2, or there is no interval; seed: 0 or more"
        )
    recipe.check(ranges.ends(space))
    recipe.preflight(cfg.test)
    if isinstance(recipe.base.data, ExamplesConfig):
        head_scores.check(recipe.measure, examples.task(recipe.base.data.train))


def opened(cfg: Config, recipe: Recipe) -> tuple[optuna.Study, Any]:
    """The study, and its space. Raises ConfigError for what could not search."""
    module, space = module_of(cfg.search), ranges.space_of(cfg.space, recipe.flat)
    study.check(space, cfg.budget, module.least(cfg.search))
    recipe.keep(cfg.output_dir / "base.json", database := cfg.output_dir / "search.db")
    sampler = module.build(cfg.search, cfg.seed, cfg.budget, space)
    pruner = rungs.pruner(rungs.rungs(run_trials.PARTS, 1)) if cfg.prune else None
    return study.open_study(database, space, sampler, pruner), space


def work(cfg: Config) -> None:
    """What a worker does."""
    recipe = Recipe(cfg.recipe, cfg.settings)
    search(cfg, recipe, *opened(cfg, recipe))


def search(cfg: Config, recipe: Recipe, searched: optuna.Study, space: Any) -> study.Found:
    """Score candidates until the budget is spent."""
    score = run_trials.scorer(recipe, cfg.output_dir / "runs", fresh_seeds.cost, partial(shown, recipe.measure))
    return study.run(searched, space, score, cfg.budget)


if __name__ == "__main__":
    sys.exit(cli.guarded(lambda: main(config.parse(Config, sys.argv[1:], prog="recipes/tune.py")) and 0))
