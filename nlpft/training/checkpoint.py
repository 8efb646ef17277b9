"""Checkpoints from which a run goes on as if it had never stopped: weights that train, optimiser, step.

The step says which batches come next, what the rate is and what dropout draws (all are functions of it), so none of that is
stored. The tensors lie in torch.distributed.checkpoint's format: each process writes its part, and any number of them can go on.
A folder gets its name only when everything in it is written; what a kill leaves behind has another name (.step-*.partial) and
goes with the next save.
"""

import contextlib
import json
import pickle
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from nlpft import config
from nlpft.errors import ConfigError, ModelError, TrainingError
from nlpft.files import whole_folder
from nlpft.models.load import resharded
from nlpft.rundir import RunDir
from nlpft.training import zero
from nlpft.training.optimizers import changed

STATE = "state.json"
# Settings that a resume may change: they alter rounding (compute, float8 included), or what follows a step that was refused.
FREE = (
    "resume",
    "output_dir",
    "trackers",
    "preflight",
    "checkpoint.",
    "bad_steps.",
    "compute.",
    "data.packs_per_micro_batch",
)
WEIGHTS, OPTIMIZER = "weights.", "optimizer."  # how the names of tensors begin


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


def to_resume(run: RunDir, cfg: Any) -> Path | None:
    """The newest checkpoint, where `cfg.resume` says to go on from it; None where the run begins.

    Raises ConfigError where a setting differs from the run's whose key does not begin with one of FREE, RunExists where the
    folder holds a run that is not to be resumed.
    """
    newest = latest(run.checkpoints) if cfg.resume else None
    if newest:
        config.check_same(config.load(type(cfg), run.config), cfg, FREE)
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
    tensors, numbers = split(whole_state(accelerator, model, optimizer))
    if accelerator.is_main_process:
        for left in folder.glob(".step-*.partial"):
            shutil.rmtree(left, ignore_errors=True)
    with _made_together(accelerator, final) as partial:
        _write(partial, tensors, final)
        if accelerator.is_main_process:
            text = json.dumps({**state, "numbers": numbers}, indent=2)
            (partial / STATE).write_text(text + "\n", encoding="utf-8")
    if accelerator.is_main_process:
        prune(folder, keep, state["best"].get("step"))
    return final


@contextlib.contextmanager
def _made_together(accelerator: Accelerator, final: Path) -> Iterator[Path]:
    """`files.whole_folder` for all processes: the folder that the main one makes, renamed when all have written to it."""
    try:
        with whole_folder(final) if accelerator.is_main_process else contextlib.nullcontext() as made:
            (partial,) = broadcast_object_list([made])
            assert partial is not None
            yield partial
            accelerator.wait_for_everyone()
    except OSError as error:
        raise _unsaved(final, error.strerror or str(error)) from error
    accelerator.wait_for_everyone()


def _write(folder: Path, tensors: dict[str, Tensor], final: Path) -> None:
    try:
        with _quiet():
            dcp.save(tensors, checkpoint_id=folder, no_dist=not dist.is_initialized())
    except CheckpointException as error:
        first = _first(error)
        if not isinstance(first, OSError):
            raise
        raise _unsaved(final, first.strerror or str(first)) from error


def _unsaved(final: Path, why: str) -> TrainingError:
    return TrainingError(
        f"{final}: cannot be saved ({why}); nothing of it is left, and older checkpoints are whole: make room, or set "
        "checkpoint.keep lower, and --resume"
    )


def load(
    accelerator: Accelerator, checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Put the checkpoint's weights and optimiser in place; returns its `state`.

    Raises ModelError where it is another model's or method's.
    """
    model = resharded(accelerator.unwrap_model(model))
    stored = sizes(checkpoint)
    _check_fit(checkpoint, {name: size.size for name, size in stored.items() if name.startswith(WEIGHTS)}, model)
    state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    if zero.is_zero(accelerator):
        numbers = state.pop("numbers")
        zero.restore(model, optimizer, lambda name, shape: _read_one(checkpoint, stored, numbers, name, shape))
        return state
    own = weights(model)
    found = {name: size for name, size in stored.items() if name.startswith(OPTIMIZER)}
    moments = {name: _like(size, _parameter(name, model)) for name, size in found.items()}
    _read(checkpoint, {**own, **moments})
    set_optimizer_state(model, optimizer, moments | state.pop("numbers"))
    return state


def _check_fit(checkpoint: Path, stored: dict[str, torch.Size], model: nn.Module) -> None:
    """Raise ModelError where the weights `stored` are not those that train in `model`."""
    own = {WEIGHTS + name: zero.shape(p) for name, p in zero.trained(model)}
    wrong = sorted(stored.keys() ^ own.keys()) or [n for n in own if own[n] != stored[n]]
    if wrong:
        named = ", ".join(name.removeprefix(WEIGHTS) for name in wrong[:3])
        raise ModelError(f"{checkpoint}: of another model or tuning method; weights differ in {named} ...")


def read(checkpoint: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, whole, on the CPU: `weights.NAME` and `optimizer.NAME.MOMENT`."""
    tensors = {name: torch.empty(size.size, dtype=size.properties.dtype) for name, size in sizes(checkpoint).items()}
    _read(checkpoint, tensors)
    return tensors


def sizes(checkpoint: Path) -> dict[str, TensorStorageMetadata]:
    """Size and type of each tensor in a checkpoint. Raises ModelError where it cannot be read."""
    try:
        found = dcp.FileSystemReader(checkpoint).read_metadata().state_dict_metadata
    except (OSError, EOFError, pickle.UnpicklingError) as error:
        raise _damaged(checkpoint, str(error)) from error
    return {name: size for name, size in found.items() if isinstance(size, TensorStorageMetadata)}


def _read(checkpoint: Path, tensors: dict[str, Tensor], alone: bool = False) -> None:
    """Fill `tensors`, which may be parts of whole ones, in place; alone: without the other processes."""
    try:
        with _quiet():
            dcp.load(tensors, checkpoint_id=checkpoint, no_dist=alone or not dist.is_initialized())
    except CheckpointException as error:
        raise _damaged(checkpoint, str(_first(error)).partition("\n")[0][:100]) from error


def _damaged(checkpoint: Path, why: str) -> ModelError:
    return ModelError(f"{checkpoint}: damaged ({why}); remove it, and --resume goes on from the one before")


def _first(error: CheckpointException) -> BaseException:
    """What went wrong in the first of the processes in which something did."""
    return next(iter(error.failures.values()))[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warning that one process is only one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _read_one(
    checkpoint: Path, stored: dict[str, TensorStorageMetadata], numbers: dict[str, Any], name: str, shape: torch.Size
) -> tuple[Tensor, dict[str, Any]]:
    """The weight called `name`, of `shape`, and what an optimiser kept of it, by key: whole, on the CPU."""
    weight, prefix = torch.empty(shape), f"{OPTIMIZER}{name}."
    kept = {
        n: torch.empty(x.size, dtype=x.properties.dtype)
        for n, x in stored.items()
        if n.rpartition(".")[0] + "." == prefix
    }
    _read(checkpoint, {WEIGHTS + name: weight, **kept}, alone=True)
    own = kept | {n: x for n, x in numbers.items() if n.rpartition(".")[0] + "." == prefix}
    return weight, {n.removeprefix(prefix): x for n, x in own.items()}


def whole_state(accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The weights of `model` that train and `optimizer`'s state, as this process writes them; with ZeRO, a share of them."""
    model = resharded(accelerator.unwrap_model(model))
    if not zero.is_zero(accelerator):
        return {**weights(model), **optimizer_state(model, optimizer)}
    found: dict[str, Any] = {}
    for number, (name, weight, moments) in enumerate(zero.states(model, optimizer)):
        own = {WEIGHTS + name: weight} | {f"{OPTIMIZER}{name}.{key}": value for key, value in moments.items()}
        mine = number % accelerator.num_processes == accelerator.process_index
        found |= {
            n: x.cpu() if isinstance(x, Tensor) else x for n, x in own.items() if mine or not isinstance(x, Tensor)
        }
    return found


def weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights that train, by name; tied ones once."""
    return {WEIGHTS + name: p.data for name, p in model.named_parameters() if p.requires_grad}


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """`optimizer`'s state by the names of `model`'s parameters; its settings are not in it, they follow from the step."""
    names = {id(p): name for name, p in model.named_parameters()}
    return {
        f"{OPTIMIZER}{names[id(p)]}.{key}": value
        for p, values in optimizer.state.items()
        for key, value in values.items()
    }


def set_optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Undo of `optimizer_state`."""
    own = optimizer.state_dict()
    numbers = {id(p): i for i, p in enumerate(changed(optimizer))}
    places = {name: numbers[id(p)] for name, p in model.named_parameters() if id(p) in numbers}
    by_number: dict[int, dict[str, Any]] = {}
    for name, value in state.items():
        parameter, _, key = name.removeprefix(OPTIMIZER).rpartition(".")
        by_number.setdefault(places[parameter], {})[key] = value
    optimizer.load_state_dict({**own, "state": by_number})


def split(state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors, and the rest."""
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    return tensors, {name: value for name, value in state.items() if name not in tensors}


def _parameter(name: str, model: nn.Module) -> Tensor:
    return model.get_parameter(name.removeprefix(OPTIMIZER).rpartition(".")[0])


def _like(size: TensorStorageMetadata, parameter: Tensor) -> Tensor:
    """An empty tensor for a moment of `parameter`: sharded as that is, if it has its shape."""
    if size.size == parameter.shape:
        return torch.empty_like(parameter, dtype=size.properties.dtype, requires_grad=False)
    return torch.empty(size.size, dtype=size.properties.dtype)


def roll_back(accelerator: Accelerator, folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> str:
    """Put the newest checkpoint's weights and optimiser in place; returns its name. Raises TrainingError without one."""
    newest = latest(folder)
    if newest is None:
        raise TrainingError(f"{folder}: no checkpoint to roll back to yet; lower checkpoint.every or optim.lr")
    load(accelerator, newest, model, optimizer)
    return newest.name


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint, if there is one."""
    found = whole(folder)
    return found[-1] if found else None


def whole(folder: Path) -> list[Path]:
    """The checkpoints in `folder` that were written to their end, oldest first."""
    return sorted(folder.glob("step-*"))


def prune(folder: Path, keep: int, best: int | None) -> None:
    """Remove all but the newest `keep` checkpoints, the one of step `best`, and those that the kept ones call their best."""
    found = whole(folder)
    kept = found[-keep:]
    named = {f"step-{step or 0:08d}" for step in (best, *map(best_of, kept))}
    for path in found[:-keep]:
        if path.name not in named:
            shutil.rmtree(path.rename(path.with_name(f".{path.name}.partial")), ignore_errors=True)


def best_of(checkpoint: Path) -> int | None:
    """The step whose checkpoint was the best when this one was written."""
    return json.loads((checkpoint / STATE).read_text(encoding="utf-8"))["best"].get("step")
