"""Which blocks of an encoder to keep and which to train: searched with cheap trials, and the winner trained anew.

nlpft label train=train.tsv eval=dev.tsv test=test.tsv -o data/mine -m MODEL
nlpft train search_layers --model MODEL --data.train data/mine/train --data.eval data/mine/eval --data.test data/mine/test
The same call again goes on with the search; several at once, in the same output_dir, share it.
"""

import json
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import SuccessiveHalvingPruner

from nlpft import cli, config
from nlpft.config import module_of, plugin
from nlpft.data import examples
from nlpft.data.examples import ExamplesConfig
from nlpft.errors import ConfigError
from nlpft.evaluation import head_scores
from nlpft.files import write_text
from nlpft.models.blocks import blocks
from nlpft.models.heads import HeadConfig
from nlpft.search import candidate, study
from nlpft.search.space import SpaceConfig, mask, space_of
from nlpft.training.optim import OptimConfig
from nlpft.training.trials import Shared, fitting, shared


@dataclass(frozen=True)
class Config:
    model: str = ""
    """Pretrained model: a hub id or a local folder."""
    output_dir: Path = Path("runs/search")
    """Holds search.db, the study, which Optuna's dashboard opens, and result.json."""
    budget: int = 60
    """Candidates that are scored, of all processes that search together."""
    epochs: float = 2.0
    """Times that a candidate sees every row of data.train, unless it is pruned."""
    prune: bool = True
    """Whether the worse two thirds of the candidates end at a ninth, and at a third, of their steps (successive halving)."""
    cost: float = 0.0
    """Nats that training all weights costs, less of them in proportion; added to the loss on data.eval."""
    retrain: int = 5
    """Fresh seeds with which the winner, and all weights beside it, are trained again and scored on data.test."""
    seed: int = 0
    """Of the search, and of the order of rows and dropout, which all candidates share."""
    data: ExamplesConfig = ExamplesConfig()
    head: HeadConfig = HeadConfig()
    optim: OptimConfig = OptimConfig(lr=5e-5, weight_decay=0.01, schedule="linear", warmup=0.1)
    space: SpaceConfig = SpaceConfig()
    search: Any = plugin("samplers", "genetic")
    objective: Any = plugin("objectives", "classification")


def main(cfg: Config) -> dict[str, Any]:
    """Search as `cfg` says, train the winner anew; returns what result.json holds."""
    check(cfg)
    common = shared(cfg)
    module, space = module_of(cfg.search), space_of(cfg.space, len(blocks(common.model)))
    study.check(space, cfg.budget, module.least(cfg.search))
    rungs = sorted({max(1, common.steps // 9), max(1, common.steps // 3), common.steps})
    pruner = SuccessiveHalvingPruner(min_resource=rungs[0], reduction_factor=3) if cfg.prune else None
    sampler = module.build(cfg.search, cfg.seed, cfg.budget, space)
    searched = study.open_study(cfg.output_dir / "search.db", space, sampler, pruner)
    keep_settings(cfg)

    def score(trial: optuna.Trial, point: dict[str, Any]) -> float:
        loss = float("inf")
        with fitting(cfg, common, point, cfg.seed) as (steps, evaluate):
            share = candidate.trained_numbers(common.model) / sum(p.numel() for p in common.model.parameters())
            for report in steps:
                if report.step in rungs:
                    loss = evaluate() + cfg.cost * share
                    trial.report(loss, report.step)
                if report.step in rungs[:-1] and trial.should_prune():
                    print(f"{trial.number:4}  {loss:.4f}  {mask(point)}  pruned at step {report.step}", flush=True)
                    raise optuna.TrialPruned
        print(f"{trial.number:4}  {loss:.4f}  {mask(point)}", flush=True)
        return loss

    found = study.run(searched, space, score, cfg.budget)
    print(f"{found.scored} candidates, {found.copies} proposed again: {found.why}")
    plain = {name: 0 if name.startswith("keep.") else 1.0 for name in space}
    again = {"winner": retrained(cfg, common, found.best.params), "all weights": retrained(cfg, common, plain)}
    table = [{"loss": one.value, **one.params} for one in study.results(searched)]
    print(json.dumps({name: {key: value["mean"] for key, value in one.items()} for name, one in again.items()}))
    result = {"mask": mask(found.best.params), "scored": found.scored, "test": again, "candidates": table}
    write_text(cfg.output_dir / "result.json", json.dumps(result, indent=2) + "\n")
    return result


def check(cfg: Config) -> None:
    """Raise UserError for what could not search."""
    examples.check(cfg.data)
    if cfg.data.eval is None or cfg.data.test is None:
        raise ConfigError(
            "data.eval and data.test: the search is led by the one, the winner judged by the other; give both"
        )
    if cfg.space.ranks or cfg.space.least_blocks or cfg.space.transplant:
        raise ConfigError(
            "space: this recipe searches keep and rates; the other dimensions are for nlpft.search.candidate"
        )


def keep_settings(cfg: Config) -> None:
    """Write the settings beside the study. Raises ConfigError where it was begun with others."""
    file = cfg.output_dir / "config.yaml"
    if file.exists():
        config.check_same(config.load(Config, file), cfg, ("budget", "retrain", "output_dir"))
    else:
        write_text(file, config.dump(cfg))


def retrained(cfg: Config, common: Shared, point: dict[str, Any]) -> dict[str, Any]:
    """Measures on data.test over fresh seeds: each seed's, their mean and standard deviation."""
    task, found = examples.task(cfg.data.train), []
    for seed in range(cfg.seed + 1, cfg.seed + 1 + cfg.retrain):
        with fitting(cfg, common, point, seed) as (steps, _):
            for _report in steps:
                pass
            scored = head_scores.outputs(common.accelerator, common.model, common.rows["test"], cfg.data)
        found.append(head_scores.measures(task, scored))
    names = [name for name in ("loss", "accuracy", "f1") if found and name in found[0]]
    spread = {name: [one[name] for one in found] for name in names}
    return {
        n: {"seeds": v, "mean": statistics.mean(v), "sd": statistics.stdev(v) if v[1:] else None}
        for n, v in spread.items()
    }


if __name__ == "__main__":
    sys.exit(cli.guarded(lambda: main(config.parse(Config, sys.argv[1:], prog="recipes/search_layers.py"))))
