"""Which blocks of an encoder to keep and which to train: searched with cheap trials, and the winner trained anew.

nlpft label train=train.tsv eval=dev.tsv test=test.tsv -o data/mine -m MODEL
nlpft train search_layers --model MODEL --data.train data/mine/train --data.eval data/mine/eval --data.test data/mine/test
The same call again goes on with the search; several at once, in the same output_dir, share it, as do --workers.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna

from nlpft import cli, config
from nlpft.config import module_of, plugin
from nlpft.data import examples
from nlpft.data.examples import ExamplesConfig
from nlpft.errors import ConfigError
from nlpft.evaluation import fresh_seeds, head_scores
from nlpft.files import write_text
from nlpft.models.blocks import blocks
from nlpft.models.heads import HeadConfig
from nlpft.samplers._dimensions import Point
from nlpft.search import candidate, rungs, study, workers
from nlpft.search.space import SpaceConfig, canonical, described, mask, space_of
from nlpft.training.optim import OptimConfig
from nlpft.training.trials import Shared, fitting, over_seeds, shared


@dataclass(frozen=True)
class Config:
    model: str = ""
    """Pretrained model: a hub id or a local folder."""
    source: str = ""
    """space.transplant: the model whose blocks may be put into `model`, such as its like trained on another task."""
    output_dir: Path = Path("runs/search")
    """Holds search.db, the study, which Optuna's dashboard opens, and result.json."""
    budget: int = 60
    """Candidates that are scored, of all processes that search together."""
    epochs: float = 2.0
    """Times that a candidate sees every row of data.train, unless it is pruned."""
    workers: int = 1
    """Processes that search together; on GPUs one for each."""
    prune: bool = True
    """Whether the worse two thirds of the candidates end at a 27th, a ninth, and a third of their steps (successive halving)."""
    least_steps: int = 5
    """Steps that every candidate has before it may end; 16 or more with probe 0, as a new head is noise at first."""
    probe: int = 3
    """Epochs in which the head alone learns first, on remembered features: once for all candidates, once for each fresh seed."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the products; auto: float32 on the CPU, bfloat16 on a GPU. The weights are float32."""
    cost: float = 0.0
    """Nats that training all weights costs, less of them in proportion; added to the loss on data.eval."""
    retrain: int = 5
    """Fresh seeds, each with a new head, with which the winner and, beside it, all weights train; scored on data.test."""
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
    common, searched, space = opened(cfg)
    folders = {f"data.{name}": getattr(cfg.data, name) for name in common.rows}
    study.keep_settings(cfg, ("budget", "retrain", "output_dir", "workers"), folders)
    if cfg.workers > 1:
        workers.together(work, [cfg], cfg.workers)
    found = search(cfg, common, searched, space)
    print(f"{found.scored} candidates, {found.copies} proposed again: {found.why}")
    everything = {f"keep.{number:02}": 0 for number in range(len(blocks(common.model)))} | {"keep.embeddings": 0}
    baseline = "all weights, from the probed head" if cfg.probe else "all weights"
    again = retrained(cfg, common, {"winner": found.best.params, baseline: everything})
    gaps = {n: fresh_seeds.gap(*(one[n]["seeds"] for one in again.values())) for n in again["winner"]}
    if gaps:
        print(fresh_seeds.verdict("winner, loss on data.test", baseline, gaps["loss"]))
    about = {"mask": mask(found.best.params), "scored": found.scored, "test": again, "gap": gaps}
    write_text(cfg.output_dir / "result.json", json.dumps(result := about | study.table(searched), indent=2) + "\n")
    return result


def opened(cfg: Config) -> tuple[Shared, optuna.Study, Any]:
    """What trials share, the study, and its space."""
    common = shared(cfg, cfg.dtype, cfg.source, cfg.probe)
    module, space = module_of(cfg.search), space_of(cfg.space, len(blocks(common.model)))
    study.check(space, cfg.budget, module.least(cfg.search))
    sampler = module.build(cfg.search, cfg.seed, cfg.budget, space)
    pruner = rungs.pruner(rungs.rungs(common.steps, cfg.least_steps, below=3)) if cfg.prune else None
    return common, study.open_study(cfg.output_dir / "search.db", space, sampler, pruner), space


def work(cfg: Config) -> None:
    """What a worker does."""
    search(cfg, *opened(cfg))


def search(cfg: Config, common: Shared, searched: optuna.Study, space: Any) -> study.Found:
    """Score candidates until the budget is spent."""
    places = rungs.rungs(common.steps, cfg.least_steps, below=3)
    whole = sum(p.numel() for p in common.model.parameters())

    def score(trial: optuna.Trial, point: dict[str, Any]) -> float:
        with fitting(cfg, common, point, cfg.seed) as (steps, evaluate):
            trial.set_user_attr("trained", trained := candidate.trained_numbers(common.model))
            for report in steps:
                if report.step in places:
                    loss = evaluate() + cfg.cost * trained / whole
                    trial.report(loss, report.step)
                if report.step in places[:-1] and trial.should_prune():
                    print(f"{trial.number:4}  {loss:.4f}  {described(point)}  pruned at step {report.step}", flush=True)
                    raise optuna.TrialPruned
        print(f"{trial.number:4}  {loss:.4f}  {described(point)}", flush=True)
        return loss

    return study.run(searched, space, score, cfg.budget, canonical)


def check(cfg: Config) -> None:
    """Raise UserError for what could not search."""
    examples.check(cfg.data)
    if cfg.data.eval is None or cfg.data.test is None:
        raise ConfigError("data.eval and data.test: one leads the search, the other judges the winner; give both")
    if cfg.space.transplant != bool(cfg.source):
        raise ConfigError("space.transplant and source: blocks are taken from that model; give both, or neither")
    if not cfg.epochs > 0 or cfg.retrain < 0 or cfg.probe < 0 or cfg.least_steps < 1:
        raise ConfigError("epochs: above 0; retrain and probe: 0 or more; least_steps: at least 1")
    workers.check(cfg.workers)


def retrained(cfg: Config, common: Shared, points: dict[str, Point]) -> dict[str, Any]:
    """Measures on data.test of candidates over fresh seeds: each seed's, their mean and its interval."""
    task, seeds = examples.task(cfg.data.train), range(cfg.seed + 1, cfg.seed + 1 + cfg.retrain)

    def measure(one: Shared) -> dict[str, float]:
        return head_scores.measures(task, head_scores.outputs(one.accelerator, one.model, one.rows["test"], cfg.data))

    found = over_seeds(cfg, common, points, seeds, cfg.probe, measure, cfg.output_dir / "retrained")
    names = [name for name in ("loss", "accuracy", "f1") if cfg.retrain and name in found["winner"][0]]
    return {name: {n: fresh_seeds.summary([s[n] for s in scored]) for n in names} for name, scored in found.items()}


if __name__ == "__main__":
    sys.exit(cli.guarded(lambda: main(config.parse(Config, sys.argv[1:], prog="recipes/search_layers.py"))))
