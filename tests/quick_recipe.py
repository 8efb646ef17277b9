"""A recipe that trains nothing: its loss is a known function of its settings, for quick tests of searches over recipes."""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlpft.config import plugin
from nlpft.errors import ConfigError
from nlpft.rundir import RunDir
from nlpft.training.settings import RunConfig
from nlpft.training.stopping import Best
from nlpft.training.watching import tell

STEPS = 9


@dataclass(frozen=True)
class Data:
    train: Path = Path()
    eval: Path | None = None
    rows_per_step: int = 16
    slow: float = 0.0  # seconds of a run
    together: int = 0  # runs that must have begun before any of them goes on
    writes: bool = False  # whether it refuses a folder that holds a run, and makes one
    turns_at: int = 0  # step behind which the loss rises on data that are called eval


@dataclass(frozen=True)
class Config(RunConfig):
    data: Data = Data()
    tuning: Any = plugin("tuning", "lora")


def check(cfg: Config) -> None:
    """Raise ConfigError for a dataset that is not there, and for settings that could not run."""
    if cfg.max_steps is not None and cfg.max_steps < 1:
        raise ConfigError(f"max_steps {cfg.max_steps}: a run has at least one step")
    for folder in (cfg.data.train, cfg.data.eval):
        if folder is None or not folder.is_dir():
            raise ConfigError(f"{folder}: no dataset")


def loss_of(cfg: Config) -> float:
    """Best at a rate of 1e-3 and 8 rows a step; no rank is like another; a seed moves it by less than 0.01."""
    rows = abs(math.log2(cfg.data.rows_per_step / 8))
    return 1 + abs(math.log10(cfg.optim.lr) + 3) + rows + 0.01 * math.sin(cfg.seed) + cfg.tuning.rank / 1e4


def main(cfg: Config) -> Best:
    """Write down the settings, in a line of runs.jsonl beside data.train; evaluate nine times."""
    seen = {
        "lr": cfg.optim.lr,
        "rows": cfg.data.rows_per_step,
        "seed": cfg.seed,
        "eval": str(cfg.data.eval),
        "every": cfg.eval_every,
    }
    with (cfg.data.train.parent / "runs.jsonl").open("a") as out:
        out.write(json.dumps(seen) + "\n")
    if cfg.data.rows_per_step == 13:
        raise RuntimeError("no such kernel")
    time.sleep(cfg.data.slow)
    begun = time.monotonic()
    while len((cfg.data.train.parent / "runs.jsonl").read_text().splitlines()) < cfg.data.together:
        time.sleep(0.05)
        assert time.monotonic() < begun + 120, "alone"
    if cfg.data.writes:
        RunDir(cfg.output_dir).check_free()
        cfg.output_dir.mkdir(parents=True)
        RunDir(cfg.output_dir).config.write_text("")
        time.sleep(0.3)
    best = Best()
    for step in range(1, STEPS + 1):
        loss = loss_of(cfg) + (STEPS - step) / STEPS
        if cfg.data.turns_at and cfg.data.eval and cfg.data.eval.name == "eval":
            loss += 9 * max(0, step - cfg.data.turns_at)
        best.update(step, loss)
        tell(step, STEPS, loss)
    return best
