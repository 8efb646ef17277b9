"""Checkpoints from which a run goes on as if it had never stopped: weights that train, optimiser, random state, step.

The step says which batches come next and what the rate is (both are functions of it), so neither is stored. A folder gets its
name only when everything in it is written; what a kill leaves behind is called .partial and is not looked at.
"""

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nlpft.errors import ConfigError, ModelError


@dataclass(frozen=True)
class CheckpointConfig:
    every: int = 100
    """Optimiser steps between two checkpoints; 0: only at the end."""
    keep: int = 2
    """How many of the newest checkpoints stay; the best one stays too."""


def check(config: CheckpointConfig) -> None:
    """Raise ConfigError for settings under which nothing could be resumed."""
    if config.every < 0:
        raise ConfigError(f"checkpoint.every {config.every}: a number of steps, or 0 for only at the end")
    if config.keep < 1:
        raise ConfigError(f"checkpoint.keep {config.keep}: at least 1, a run cannot be resumed from none")


def save(
    accelerator: Accelerator, folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> Path:
    """Write the checkpoint of `state["step"]` below `folder`; called by every process."""
    final = folder / f"step-{state['step']:08d}"
    partial = final.with_suffix(".partial")
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(trained_weights(accelerator.unwrap_model(model)), partial / "weights.safetensors")
        torch.save(optimizer.state_dict(), partial / "optimizer.pt")
        (partial / "state.json").write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    accelerator.wait_for_everyone()
    torch.save(random_state(), partial / f"random-{accelerator.process_index}.pt")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
    accelerator.wait_for_everyone()
    return final


def load(
    accelerator: Accelerator, checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Put the checkpoint's weights, optimiser and random state in place; returns its `state`.

    Raises ModelError where it is another model's or method's, or has been written by another number of processes.
    """
    load_weights(accelerator.unwrap_model(model), checkpoint)
    optimizer.load_state_dict(torch.load(checkpoint / "optimizer.pt", map_location="cpu", weights_only=True))
    file = checkpoint / f"random-{accelerator.process_index}.pt"
    if not file.exists() or len(list(checkpoint.glob("random-*.pt"))) != accelerator.num_processes:
        raise ModelError(
            f"{checkpoint}: written by {len(list(checkpoint.glob('random-*.pt')))} processes, resumed by "
            f"{accelerator.num_processes}: their random states (dropout) would differ; use the same number"
        )
    set_random_state(torch.load(file, weights_only=True))
    return json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))


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
    return [path for path in sorted(folder.glob("step-*")) if path.suffix != ".partial"]


def prune(folder: Path, keep: int, best: int | None) -> None:
    """Remove all but the newest `keep` checkpoints and the one of step `best`."""
    found = whole(folder)
    for path in found[: max(0, len(found) - keep)]:
        if path.name != f"step-{best or 0:08d}":
            shutil.rmtree(path)


def random_state() -> dict[str, Any]:
    """State of every random generator that training draws from, as types that torch loads without unpickling code."""
    kind, keys, *rest = cast(tuple, np.random.get_state(legacy=True))
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Undo of `random_state`."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
