"""Strategies of transfer compared at equal cost, over seeds, on a test that each touches once: a table, ranks, and figures.

nlpft label train=train.tsv eval=dev.tsv test=test.tsv -o data/mine -m MODEL
nlpft train compare_strategies --model MODEL --data.train data/mine/train --data.eval data/mine/eval --data.test data/mine/test \
    --budget.steps 100 --strategies finetune "head: finetune --train head" probe_then_finetune
The same call again goes on where it was, and may name more strategies or seeds; nlpft list strategies shows which there are.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlpft import cli, config
from nlpft.config import plugin
from nlpft.data.examples import ExamplesConfig
from nlpft.errors import ConfigError, DataError
from nlpft.files import write_text
from nlpft.models.heads import HeadConfig
from nlpft.strategies import _cells, _compare, _lab, _plots, _result
from nlpft.strategies._cells import Cell, Plan
from nlpft.strategies._meter import BudgetConfig
from nlpft.training.optim import OptimConfig


@dataclass(frozen=True)
class Config:
    model: str = ""
    """Pretrained model: a hub id or a local folder."""
    output_dir: Path = Path("runs/strategies")
    """Holds cells/, a file for each strategy and seed, result.json, result.md and the figures."""
    strategies: tuple[str, ...] = ("finetune", "head: finetune --train head", "probe_then_finetune")
    """What is compared, each as `[LABEL: ]NAME [--SETTING VALUE ...]`; nlpft list strategies has the names."""
    against: tuple[str, ...] = ()
    """Labels of the strategies with which all are compared, such as plain fine-tuning and random search; none: the first."""
    seeds: int = 5
    """Times that each strategy is run; a seed decides the new head, the order of rows, dropout, and what a search proposes."""
    budget: BudgetConfig = BudgetConfig(steps=100)
    measure: str = "accuracy"
    """What is compared: accuracy; of tags also f1, of spans."""
    sources: tuple[Path, ...] = ()
    """Dataset folders of other tasks with labels, for strategies that learn from them first."""
    unlabelled: Path | None = None
    """Dataset folder with rows of the domain of data.test, whose labels are not read, for domain adaptation."""
    data: ExamplesConfig = ExamplesConfig()
    head: HeadConfig = HeadConfig()
    optim: OptimConfig = OptimConfig(lr=5e-5, weight_decay=0.01, schedule="linear", warmup=0.1)
    objective: Any = plugin("objectives", "classification")
    confidence: float = 0.95
    """Share of intervals that hold the true value."""
    resamples: int = 5000
    """Draws of the bootstrap."""
    join: tuple[Path, ...] = ()
    """result.json of comparisons of the same strategies on other data, whose seeds are blocks of the ranks too."""


def main(cfg: Config) -> dict[str, Any]:
    """Run what is not done yet, seed by seed; returns what result.json holds."""
    plans = _cells.plans(cfg.strategies)
    check(cfg, plans)
    joined = [read(file) for file in cfg.join]
    lab, test = _lab.laboratory(cfg)
    for plan in plans:
        plan.module.check(plan.settings, lab)
    kept = _cells.Kept(cfg.output_dir / "cells", cfg)
    cells = []
    for seed in range(cfg.seeds):
        for plan in plans:
            cell = kept.read(plan, seed) or kept.add(plan, _cells.run(lab, test, plan, seed))
            cells.append(cell)
            say(cell)
    found = _result.result(cfg, plans, cells, joined)
    write(cfg, found)
    return found


def check(cfg: Config, plans: list[Plan]) -> None:
    """Raise ConfigError for what would come to light behind hours only."""
    _result.references(cfg.against, plans)
    _compare.check()
    if cfg.seeds < 2:
        raise ConfigError(f"seeds {cfg.seeds}: at least 2, or nobody knows what chance does; 5 or more are better")
    if not 0.5 < cfg.confidence < 1 or cfg.resamples < 100:
        raise ConfigError("confidence: a share between 0.5 and 1, such as 0.95; resamples: at least 100")


def read(file: Path) -> dict[str, Any]:
    """Another comparison's result. Raises DataError where it is none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {"strategies": found["strategies"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"join {file}: no result.json of compare_strategies ({error})") from error


def say(cell: Cell) -> None:
    spent = cell.spent
    print(
        f"seed {cell.seed}  {cell.label}: {cell.value:.4f}, loss {cell.loss:.4f}; {spent['steps']:.1f} steps' worth, "
        f"{spent['optimizer_steps']} updates, {spent['seconds']:.1f} s",
        flush=True,
    )


def write(cfg: Config, found: dict[str, Any]) -> None:
    """result.json, result.md and the figures."""
    lines = _result.lines(found)
    figures = _plots.figures(found)
    for name, figure in figures.items():
        figure.savefig(cfg.output_dir / f"{name}.png", dpi=_plots.DPI)
        lines += ["", f"![{name}]({name}.png)"]
    write_text(cfg.output_dir / "config.yaml", config.dump(cfg))
    write_text(cfg.output_dir / "result.json", json.dumps(found, indent=1) + "\n")
    write_text(cfg.output_dir / "result.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    sys.exit(cli.guarded(lambda: main(config.parse(Config, sys.argv[1:], prog="recipes/compare_strategies.py")) and 0))
