"""Whether a run fits: one real forward, backward and step on its largest micro-batch, before anything is written."""

import copy
import dataclasses
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import Accelerator
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import nn

from nlpft.data.loader import DataConfig, PackedData
from nlpft.errors import ConfigError
from nlpft.models.compute import keep_activations
from nlpft.models.forward import bare
from nlpft.models.load import is_sharded
from nlpft.training import zero
from nlpft.training.loop import Batch, StepLoss, peak_memory, step_if, to_device, total
from nlpft.training.optimizers import changed, inner, skips_on_device

GIB = 2**30
ROOM = 0.95  # share of a GPU's memory that a run may take: allocators lose some to gaps
KEPT = (0.5, 0.1)  # shares of activations that are tried where one pack does not fit
BETTER = 0.98  # of the time a pack takes: a larger micro-batch must win as much to be chosen


@dataclasses.dataclass(frozen=True)
class Fit:
    """What one micro-batch and one optimiser step took."""

    packs: int  # in the micro-batch
    seconds: float  # of its forward and backward
    optimizer_seconds: float
    gib: float  # highest memory of the device, or of this process on a CPU

    def for_a_pack(self) -> float:
        """Seconds of forward and backward that a pack takes."""
        return self.seconds / self.packs

    def step(self, config: DataConfig, processes: int) -> float:
        """Seconds of an optimiser step."""
        rounds = -(-config.packs_per_step // (processes * self.packs))
        return rounds * self.seconds + self.optimizer_seconds


@dataclasses.dataclass(frozen=True)
class Trial:
    """All that a measurement needs."""

    accelerator: Accelerator
    model: nn.Module
    optimizer: torch.optim.Optimizer
    data: PackedData
    step_loss: StepLoss

    def measure(self, packs: int) -> Fit | None:
        """Two rounds, the second one timed (the first compiles); None where memory does not suffice in some process.

        Weights and the optimiser's state stay as they are.
        """
        device, own = self.accelerator.device, inner(self.optimizer)
        before = copy.deepcopy(own.state_dict())
        reset_peak(device)
        try:
            batch = to_device(self.data.largest(packs), device)
            self.round(batch)
            fit = Fit(packs, *self.round(batch), peak(device))
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            if is_sharded(self.model) and self.accelerator.num_processes > 1:  # the others wait for this one's weights
                raise ConfigError(
                    f"{packs} x {self.data.max_length} tokens do not fit into process {self.accelerator.process_index}; lower "
                    "data.packs_per_micro_batch (the result stays the same) or compute.keep_activations"
                ) from None
            fit = None
        self.optimizer.zero_grad()
        own.state.clear()
        own.load_state_dict(before)
        clear_device_cache(garbage_collection=True)
        return fit if everywhere(self, fit is not None and fit.gib <= ROOM * capacity(device)) else None

    def round(self, batch: Batch) -> tuple[float, float]:
        """Seconds of forward and backward, and of the optimiser."""
        accelerator, model = self.accelerator, self.model
        model.train()
        start = now(accelerator.device)
        with nullcontext() if is_sharded(model) else accelerator.no_sync(model):
            accelerator.backward(self.step_loss(model, batch))
        middle = now(accelerator.device)
        if skips_on_device(self.optimizer):
            step_if(torch.zeros((), dtype=torch.bool, device=accelerator.device), self.optimizer)
            return middle - start, now(accelerator.device) - middle
        with kept(self.optimizer):
            before = now(accelerator.device)
            self.optimizer.step()
            return middle - start, now(accelerator.device) - before


def settled(trial: Trial, cfg: Any, max_steps: int) -> Any:
    """`cfg` (a recipe's settings) with a number where packs_per_micro_batch was `auto`; says on stderr what a run will take.

    Raises ConfigError where it does not fit, with the settings that would, measured. Nothing is measured under DeepSpeed.
    """
    wanted = cfg.data.packs_per_micro_batch
    on_gpu = trial.accelerator.device.type == "cuda"
    if wanted != "auto" and not (on_gpu if cfg.preflight is None else cfg.preflight):
        return cfg
    if zero.is_zero(trial.accelerator):
        return unmeasured(trial, cfg)
    fit = fastest(trial, cfg.data) if wanted == "auto" else trial.measure(wanted)
    if fit is None:
        raise ConfigError(too_large(trial, cfg))
    data = dataclasses.replace(cfg.data, packs_per_micro_batch=fit.packs)
    text = forecast(trial, fit, data, max_steps, cfg)
    if trial.accelerator.is_main_process:
        print(text, file=sys.stderr)
    return dataclasses.replace(cfg, data=data)


def unmeasured(trial: Trial, cfg: Any) -> Any:
    """`cfg` as it is: DeepSpeed has no step that could be taken back. Raises ConfigError where a number is to be measured."""
    if cfg.data.packs_per_micro_batch == "auto":
        raise ConfigError(
            "data.packs_per_micro_batch auto: DeepSpeed has no step that could be tried; set a number, 1 to begin with"
        )
    if trial.accelerator.is_main_process:
        print("preflight: left out, DeepSpeed has no step that could be tried and taken back", file=sys.stderr)
    return cfg


def fastest(trial: Trial, config: DataConfig) -> Fit | None:
    """The micro-batch that takes the least time for a pack, of those that fit; sizes are tried while they still gain."""
    best: Fit | None = None
    before: Fit | None = None  # the one that best has beaten
    share = -(-config.packs_per_step // trial.accelerator.num_processes)
    for packs in sizes(share):
        if (
            before
            and best
            and not everywhere(trial, grown(before, best, packs) <= ROOM * capacity(trial.accelerator.device))
        ):
            break
        fit, before = trial.measure(packs), best
        if fit is None or not everywhere(trial, best is None or fit.for_a_pack() < BETTER * best.for_a_pack()):
            break
        best = fit
    return best


def grown(one: Fit, two: Fit, packs: int) -> float:
    """GiB that `packs` would take: what two smaller micro-batches took, continued as a line."""
    return two.gib + (two.gib - one.gib) / (two.packs - one.packs) * (packs - two.packs)


def everywhere(trial: Trial, holds: bool) -> bool:
    """Whether it holds in every process."""
    one = torch.tensor(float(holds), device=trial.accelerator.device)
    return int(total(trial.accelerator, one)) == trial.accelerator.num_processes


def sizes(share: int) -> Iterator[int]:
    """1, 2, 4, ... and `share` itself, the packs of a step that a process has."""
    size = 1
    while size < share:
        yield size
        size *= 2
    yield share


def too_large(trial: Trial, cfg: Any) -> str:
    """What to say where the largest micro-batch does not fit."""
    wanted, has = cfg.data.packs_per_micro_batch, f"{capacity(trial.accelerator.device):.0f} GiB"
    for size in [] if wanted == "auto" else [size for size in reversed([*sizes(wanted)]) if size < wanted]:
        if fit := trial.measure(size):
            return (
                f"data.packs_per_micro_batch {wanted} does not fit into {has}; {size} does, with {fit.gib:.1f} GiB, and the same "
                "result"
            )
    for share in [share for share in KEPT if share < cfg.compute.keep_activations]:
        keep_activations(bare(trial.model), share)
        if fit := trial.measure(1):
            return (
                f"one pack of {trial.data.max_length} tokens does not fit into {has}; with compute.keep_activations {share} and "
                f"data.packs_per_micro_batch 1 it does: {fit.gib:.1f} GiB, {fit.seconds:.2f} s"
            )
    return (
        f"not even one pack of {trial.data.max_length} tokens fits into {has}, with hardly any activation kept; lower "
        "data.max_length, or train fewer weights (tuning.name lora)"
    )


def forecast(trial: Trial, fit: Fit, config: DataConfig, max_steps: int, cfg: Any) -> str:
    """Memory, time and disk of a run, in one line."""
    step = fit.step(config, trial.accelerator.num_processes)
    each = checkpoint_bytes(trial.model) / GIB
    free = shutil.disk_usage(existing(cfg.output_dir)).free / GIB
    number = cfg.checkpoint.keep + 2  # the best one, and one that is being written
    text = (
        f"preflight: {fit.packs} x {trial.data.max_length:,} tokens at once take {fit.gib:.1f} of "
        f"{capacity(trial.accelerator.device):.0f} GiB; {step:.2f} s a step, {max_steps:,} steps: "
        f"{timedelta(seconds=round(step * max_steps))}; checkpoints of {each:.2f} GiB, up to {number}, {free:.0f} GiB free"
    )
    if each * number > free:
        raise ConfigError(f"{text}: not enough; lower checkpoint.keep or choose another output_dir")
    return text


def checkpoint_bytes(model: nn.Module) -> int:
    """Trained weights and AdamW's two moments of each."""
    return sum(3 * p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)


def existing(folder: Path) -> Path:
    """The nearest folder above that is there."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


@contextmanager
def kept(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Behind it the weights that `optimizer` changes are what they were before."""
    weights = changed(optimizer)
    before = [p.detach().to("cpu", copy=True) for p in weights]
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, value in zip(weights, before, strict=True):
                weight.copy_(value)


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak(device: torch.device) -> float:
    """Highest memory in GiB: allocated on a GPU; of this process now on a CPU."""
    return peak_memory(device) if device.type == "cuda" else psutil.Process().memory_info().rss / GIB


def capacity(device: torch.device) -> float:
    """Memory of the device, GiB."""
    return (torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else psutil.virtual_memory().total) / GIB
