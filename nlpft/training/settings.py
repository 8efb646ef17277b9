"""The settings that every run of training has, whatever it trains on; a recipe's `Config` adds its own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nlpft.models.compute import ComputeConfig
from nlpft.training.bad_steps import BadStepConfig
from nlpft.training.checkpoint import CheckpointConfig
from nlpft.training.optim import OptimConfig
from nlpft.training.regularize import RegularizeConfig


@dataclass(frozen=True)
class RunConfig:
    model: str = "smollm2-135m"
    """Pretrained model: a hub id, a local folder, or smollm2-135m."""
    output_dir: Path = Path("runs/new")
    """The run's folder; it must not hold a run yet, unless --resume."""
    epochs: float = 1.0
    """Times that every row is seen."""
    max_steps: int | None = None
    """Optimiser steps, in place of epochs."""
    eval_every: int = 0
    """Optimiser steps between two measurements on data.eval; 0: only at the end."""
    patience: int = 0
    """Evaluations without a better result after which training stops; 0: never."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the weights; auto: float32 on the CPU, bfloat16 on a GPU."""
    seed: int = 0
    """Of the order of rows, new weights, and dropout."""
    preflight: bool | None = None
    """Whether a step on the largest batch is tried first: does it fit, how long will all take; not set: on a GPU."""
    resume: bool = False
    """Go on from the newest checkpoint in output_dir, or begin where there is none."""
    trackers: tuple[Literal["tensorboard", "wandb", "trackio", "mlflow"], ...] = ()
    """Experiment trackers that get every number of metrics.jsonl."""
    optim: OptimConfig = OptimConfig()
    regularize: RegularizeConfig = RegularizeConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    bad_steps: BadStepConfig = BadStepConfig()
    compute: ComputeConfig = ComputeConfig()
