"""Checkpoints from which a run goes on as if it had never stopped: weights that train, optimiser, step.

The step says which batches come next, what the rate is and what dropout draws (all are functions of it), so none of that is
stored, and any number of processes can go on. A folder gets its name only when everything in it is written; what a kill leaves
behind has another name (.step-*.partial) and goes with the next save.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nlpft import config
from nlpft.errors import ConfigError, ModelError, TrainingError
from nlpft.files import whole_folder
from nlpft.rundir import RunDir


@dataclass(frozen=True)
class CheckpointConfig:
    every: int = 100
    """Optimiser steps between two checkpoints; 0: only at the end."""
    keep: int = 2
    """How many of the newest checkpoints stay; the best one stays too."""


def check(settings: CheckpointConfig) -> None:
    """Raise ConfigError for settings under which nothing could be resumed."""
    if settings.every < 0:
        raise ConfigError(f"checkpoint.every {settings.every}: a number of steps, or 0 for only at the end")
    if settings.keep < 1:
        raise ConfigError(f"checkpoint.keep {settings.keep}: at least 1, a run cannot be resumed from none")


def to_resume(run: RunDir, cfg: Any, free: Sequence[str]) -> Path | None:
    """The newest checkpoint, where `cfg.resume` says to go on from it; None where the run begins.

    Raises ConfigError where a setting differs from the run's whose key does not begin with one of `free`, RunExists where the
    folder holds a run that is not to be resumed.
    """
    newest = latest(run.checkpoints) if cfg.resume else None
    if newest:
        config.check_same(config.load(type(cfg), run.config), cfg, free)
    elif not cfg.resume:
        run.check_free()
    return newest


def save(
    accelerator: Accelerator,
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    keep: int = 2,
) -> Path:
    """Write the checkpoint of `state["step"]` below `folder`, keep the newest `keep` and the best; called by every process."""
    final = folder / f"step-{state['step']:08d}"
    if accelerator.is_main_process:
        for left in folder.glob(".step-*.partial"):
            shutil.rmtree(left, ignore_errors=True)
        with whole_folder(final) as partial:
            save_file(trained_weights(accelerator.unwrap_model(model)), partial / "weights.safetensors")
            torch.save(optimizer.state_dict(), partial / "optimizer.pt")
            (partial / "state.json").write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
        prune(folder, keep, state["best"].get("step"))
    accelerator.wait_for_everyone()
    return final


def load(
    accelerator: Accelerator, checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Put the checkpoint's weights and optimiser in place; returns its `state`.

    Raises ModelError where it is another model's or method's.
    """
    load_weights(accelerator.unwrap_model(model), checkpoint)
    optimizer.load_state_dict(torch.load(checkpoint / "optimizer.pt", map_location="cpu", weights_only=True))
    return json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))


def roll_back(accelerator: Accelerator, folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> str:
    """Put the newest checkpoint's weights and optimiser in place; returns its name. Raises TrainingError without one."""
    newest = latest(folder)
    if newest is None:
        raise TrainingError(f"{folder}: no checkpoint to roll back to yet; lower checkpoint.every or optim.lr")
    load(accelerator, newest, model, optimizer)
    return newest.name


def load_weights(model: nn.Module, checkpoint: Path) -> None:
    """Put the checkpoint's weights into `model` (not wrapped). Raises ModelError where they do not fit."""
    stored, own = load_file(checkpoint / "weights.safetensors"), trained_weights(model)
    wrong = sorted(stored.keys() ^ own.keys()) or [n for n in own if own[n].shape != stored[n].shape]
    if wrong:
        raise ModelError(
            f"{checkpoint}: of another model or tuning method; weights differ in {', '.join(wrong[:3])} ..."
        )
    with torch.no_grad():
        for name, weight in own.items():
            weight.copy_(stored[name])


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights that train, by name; tied ones once."""
    return {name: p.data for name, p in model.named_parameters() if p.requires_grad}


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint, if there is one."""
    found = whole(folder)
    return found[-1] if found else None


def whole(folder: Path) -> list[Path]:
    """The checkpoints in `folder` that were written to their end, oldest first."""
    return sorted(folder.glob("step-*"))


def prune(folder: Path, keep: int, best: int | None) -> None:
    """Remove all but the newest `keep` checkpoints and the one of step `best`."""
    found = whole(folder)
    for path in found[: max(0, len(found) - keep)]:
        if path.name != f"step-{best or 0:08d}":
            shutil.rmtree(path)
