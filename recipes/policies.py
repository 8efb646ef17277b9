"""Which policy of what to freeze wins on how many rows: the same recipe over numbers of rows, policies and seeds, as one table.

nlpft train policies --settings classify.yaml --rows 50 200 1000 0 --seeds 3 --output_dir runs/policies
"""

import importlib
import math
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from accelerate import PartialState
from rich.console import Console

from nlpft import cli, config
from nlpft.data import examples, store
from nlpft.data.labelled import folds
from nlpft.errors import ConfigError
from nlpft.evaluation import sweep
from nlpft.evaluation.sweep import Score
from nlpft.rundir import RunDir

POLICIES = {
    "head_only": ("--tuning.name", "head_only", "--head.lr_factor", "100"),
    "freeze": ("--tuning.name", "freeze", "--tuning.train_last", "3"),
    "gradual": ("--tuning.name", "gradual"),
    "full": ("--tuning.name", "full"),
    "full-decay": ("--tuning.name", "full", "--optim.layer_decay", "0.9"),
    "lora": ("--tuning.name", "lora"),
}


@dataclass(frozen=True)
class Config:
    settings: Path
    """Settings of every run, as YAML for the recipe, with data.test, on which all are scored; tuning is set by the policies."""
    recipe: Literal["classify", "tag"] = "classify"
    """Recipe that is run."""
    rows: tuple[int, ...] = (50, 200, 1000, 0)
    """Numbers of rows of data.train to learn from, drawn anew for each seed with every label in its proportion; 0: all."""
    policies: tuple[str, ...] = ("head_only", "freeze", "gradual", "full", "full-decay")
    """head_only, at ten times the head's usual rate; freeze: the last three blocks and the head; gradual: unfreezing from the
    top; full; full-decay: full, each block at 0.9 of the rate of the one above it; lora."""
    seeds: int = 3
    """Runs of each kind; the policies share rows and seeds."""
    least_steps: int = 100
    """Optimiser steps that a run has at least, where the settings' epochs over few rows give fewer."""
    measure: str = "accuracy"
    """What is compared, such as accuracy or f1."""
    output_dir: Path = Path("runs/policies")
    """Folder of scores.jsonl and policies.md. The runs' weights are removed: 60 of them would fill a disk."""
    confidence: float = 0.95
    """Share of intervals that hold the true mean."""
    resume: bool = False
    """Go on with what is in output_dir; runs that are done are not run again."""


def main(cfg: Config) -> list[Score]:
    """Run what is not done yet; returns all scores."""
    say = Console(stderr=True, quiet=not PartialState().is_main_process, soft_wrap=True).print
    check(cfg)
    scores = sweep.Scores(cfg.output_dir / "scores.jsonl", cfg.resume)
    found = []
    for rows in cfg.rows:
        for seed in range(cfg.seeds):
            with PartialState().main_process_first():
                data = drawn(cfg, rows, seed)
            for policy in cfg.policies:
                run = settings(cfg, data, policy, seed)
                key = sweep.key(run)
                if key not in scores:
                    scores.add(key, Score(rows or count(data), policy, seed, taken(cfg, run)))
                found.append(scores[key])
                say(f"{rows or 'all'} rows, {policy}, seed {seed}: {cfg.measure} {found[-1].value:.4f}")
    lines = sweep.table(found, cfg.confidence)
    if PartialState().is_main_process:
        (cfg.output_dir / "policies.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    say(*lines, sep="\n", markup=False)
    return found


def drawn(cfg: Config, rows: int, seed: int) -> Path:
    """The dataset of so many rows."""
    whole = parsed(cfg).data.train
    return folds.subset(whole, cfg.output_dir / f"data/{rows}-{seed}", rows, seed) if rows else whole


def count(data: Path) -> int:
    return len(store.read(data, folds.NEEDS))


def settings(cfg: Config, data: Path, policy: str, seed: int) -> Any:
    """The settings of one run."""
    place = cfg.output_dir / f"runs/{data.parent.name}-{policy}-{seed}"
    run = parsed(cfg, *POLICIES[policy], "--data.train", str(data), "--seed", str(seed), "--output_dir", str(place))
    steps = round(run.epochs * math.ceil(count(data) / run.data.rows_per_step))
    return run if run.max_steps else replace(run, max_steps=max(cfg.least_steps, steps))


def parsed(cfg: Config, *more: str) -> Any:
    """The recipe's settings, with `more` of them."""
    module = importlib.import_module(cfg.recipe)
    return config.parse(module.Config, ["--config", str(cfg.settings), *more])


def taken(cfg: Config, run: Any) -> float:
    """The measure that the run ends with, of which nothing else is kept."""
    importlib.import_module(cfg.recipe).main(replace(run, resume=True))
    value = sweep.measured(RunDir(run.output_dir).eval / "test", cfg.measure)
    PartialState().wait_for_everyone()
    if PartialState().is_main_process:
        shutil.rmtree(run.output_dir)
    return value


def check(cfg: Config) -> None:
    """Raise UserError for what would come to light behind a run only."""
    run = parsed(cfg)
    examples.check(run.data)
    if run.data.test is None:
        raise ConfigError(f"{cfg.settings}: set data.test, on which all runs are scored")
    unknown = [name for name in cfg.policies if name not in POLICIES]
    if unknown or not cfg.policies:
        raise ConfigError(f"policies {' '.join(unknown) or '()'}: there are {', '.join(POLICIES)}")
    if cfg.seeds < 2 or min(cfg.rows, default=-1) < 0:
        raise ConfigError("seeds: at least 2, or there is no interval; rows: numbers of rows, 0 for all")


if __name__ == "__main__":
    sys.exit(cli.guarded(lambda: main(config.parse(Config, sys.argv[1:], prog="recipes/policies.py")) and 0))
