"""One optimiser step at a time: the loop yields, the recipe decides what to log, evaluate and save."""

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from nlpft.training.distributed import accumulation
from nlpft.training.optimizers import inner, skips_on_device

Batch = dict[str, Tensor]
StepLoss = Callable[[nn.Module, Batch], Tensor]
Count = Callable[[Batch], Tensor]


class Readback:
    """Numbers on their way from the device to the host; asking for them waits, until then nothing does."""

    def __init__(self, numbers: Tensor) -> None:
        self._host = numbers.to("cpu", non_blocking=True)
        self._ready = torch.cuda.Event() if numbers.is_cuda else None
        if self._ready is not None:
            self._ready.record()

    def __getitem__(self, number: int) -> float:
        return self.all()[number]

    def all(self) -> list[float]:
        if self._ready is not None:
            self._ready.synchronize()
        return self._host.tolist()


class Clock:
    """Measures from its making to `stop`, by the device's own clock where it has one; only asking for seconds waits."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.begun = self._now()

    def _now(self) -> Any:
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def stop(self) -> Callable[[], float]:
        """What gives the seconds until now."""
        ended = self._now()

        def seconds() -> float:
            if not self.cuda:
                return float(ended - self.begun)
            ended.synchronize()
            return float(self.begun.elapsed_time(ended)) / 1000

        return seconds


@dataclass(frozen=True)
class StepReport:
    """What one optimiser step did, summed over micro-batches and processes.

    To ask for one of the sums waits for the device to have done the step: ask one step late, and the device never waits.
    """

    step: int  # optimiser steps done, from 1
    lr: float  # rate that this step used
    took: Callable[
        [], float
    ]  # seconds of this step alone: what a recipe does between two steps, such as evaluating, is not in it
    memory_gib: float  # highest device memory so far, GiB; 0 on the CPU
    sums: Readback  # nats, targets, tokens, norm, interrupted processes, then the nats of each micro-batch

    @property
    def loss(self) -> float:
        """Nats per target, before the step."""
        return self.sums[0] / max(1.0, self.sums[1])

    @property
    def seconds(self) -> float:
        """Time of the step, data loading included; on a GPU the device's own, which lags behind the host's."""
        return self.took()

    @property
    def targets(self) -> int:
        """Positions the loss counted."""
        return int(self.sums[1])

    @property
    def tokens(self) -> int:
        """Tokens the model read, without padding."""
        return int(self.sums[2])

    @property
    def grad_norm(self) -> float:
        """Norm of the gradient before clipping."""
        return self.sums[3]

    @property
    def interrupted(self) -> bool:
        """Whether a process was told to stop before this step; all of them learn it from the same report."""
        return self.sums[4] > 0

    @property
    def problem(self) -> str:
        """Why the step was not taken; empty where it was."""
        if not self.targets:
            return "no learnt token"
        if not math.isfinite(self.loss):
            return "the loss is not finite"
        return "" if math.isfinite(self.grad_norm) else "the gradient is not finite"

    @property
    def suspects(self) -> list[int]:
        """Of a step with a problem, the micro-batches (numbered over all processes) whose loss is not finite, or all."""
        nats = self.sums.all()[5:]
        return [n for n, x in enumerate(nats) if not math.isfinite(x)] or list(range(len(nats)))

    def numbers(self) -> dict[str, Any]:
        """All of it, as a line of a log."""
        names = ("step", "loss", "targets", "tokens", "grad_norm", "lr", "seconds", "memory_gib")
        return {name: getattr(self, name) for name in names}


class OneLate:
    """Hands every report to all `readers` when the next one comes, by when its numbers have arrived; `now`: at once."""

    interrupted = False  # whether a report said so; the one that came then has been read too
    told = 0  # step of the report that came last

    def __init__(self, *readers: Callable[[StepReport], None]) -> None:
        self.readers = readers
        self.held: list[StepReport] = []

    def __call__(self, report: StepReport, now: bool = False) -> None:
        self.held.append(report)
        self.told = report.step
        self.flush(0 if now else 1)

    def flush(self, late: int = 0) -> None:
        """Hand out all reports but the last `late`."""
        while len(self.held) > (0 if self.interrupted else late):
            oldest = self.held.pop(0)
            self.interrupted |= oldest.interrupted
            for read in self.readers:
                read(oldest)


@dataclass(frozen=True)
class StepSettings:
    """What the steps of a run have in common."""

    learning_rate: Callable[[int], float]  # of a step, counted from 1
    max_grad_norm: float = 1.0  # 0: gradients are not clipped
    seed: int = 0  # of dropout
    first_step: int = 0  # steps done before
    hold_back: Callable[[int], None] = lambda step: None  # takes the gradient from what does not train yet in a step


def train_steps(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: Iterable[list[Batch]],
    step_loss: StepLoss,
    num_targets: Count,
    settings: StepSettings,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[StepReport]:
    """Train `model` in place on `steps` (each a list of this process's micro-batches), yielding after every optimiser step.

    `step_loss(model, batch)` is a SUM over the batch's targets, `num_targets(batch)` their number. The gradient is the sum over
    all micro-batches and processes divided by all their targets: it does not depend on how the step was cut up. What is drawn
    (dropout) follows from the seed, the step and the micro-batch's place in it, so a run can begin at any step. A step without
    targets, or with a loss or gradient that is not finite, changes nothing; its report says so. `stop()`: whether this process
    has been told to stop; the report tells all of them.
    """
    device, clock = accelerator.device, Clock(accelerator.device)
    processes, process, accumulating = (
        accelerator.num_processes,
        accelerator.process_index,
        accumulation(accelerator, model),
    )
    for step, batches in enumerate(steps, settings.first_step + 1):
        model.train()
        batches = [to_device(batch, device) for batch in batches]
        tokens = torch.tensor(sum(tokens_in(batch) for batch in batches), device=device)
        counts = total(accelerator, torch.stack((torch.stack([num_targets(b) for b in batches]).sum(), tokens)))
        nats = torch.zeros(len(batches) * processes, device=device)
        for i, batch in enumerate(batches):
            number = i * processes + process
            seed_draws(settings.seed, step, number)
            lacking = partial(OutOfMemory, step, number, step - 1)
            with enough_memory(lacking), accumulating(i == len(batches) - 1):
                loss = step_loss(model, batch)
                # DDP, FSDP and ZeRO take the mean of the processes' gradients; we want their sum.
                accelerator.backward(loss * processes / counts[0].clamp(min=1))
                nats[number] = loss.detach()
        with enough_memory(partial(OutOfMemory, step, None, None)):
            settings.hold_back(step)
            norm = whole(accelerator.clip_grad_norm_(model.parameters(), settings.max_grad_norm or float("inf")))
            rate = settings.learning_rate(step)
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("scale", 1.0)  # of a group with a rate of its own
            seen = total(accelerator, torch.cat((nats, nats.new_tensor([stop()]))))
            nats, stopped = seen[:-1], seen[-1]
            step_if(torch.isfinite(norm) & torch.isfinite(nats.sum()) & (counts[0] > 0), optimizer)
            optimizer.zero_grad()
        sums = torch.cat((torch.stack([x.double() for x in (nats.sum(), *counts, norm, stopped)]), nats.double()))
        yield StepReport(step, rate, clock.stop(), peak_memory(device), Readback(sums))
        clock = Clock(device)


def tokens_in(batch: Batch) -> int:
    """Tokens of `batch` without padding, where it says how many those are (data/collate.py)."""
    return int(batch["filled"]) if "filled" in batch else batch["input_ids"].numel()


class OutOfMemory(Exception):
    """No memory in `step`: in the forward or backward pass of micro-batch `number`, or (None) behind it.

    whole: the step whose weights the model has; None where an optimiser may have changed some of them.
    """

    def __init__(self, step: int, number: int | None, whole: int | None) -> None:
        super().__init__(f"out of memory in step {step}")
        self.step, self.number, self.whole = step, number, whole


@contextmanager
def enough_memory(lacking: Callable[[], OutOfMemory]) -> Iterator[None]:
    """Raise what `lacking` makes where the device, or the host, says that it has no more memory."""
    try:
        yield
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        error.__traceback__ = None  # it holds the activations
    else:
        return
    raise lacking()


def whole(value: Tensor) -> Tensor:
    """A number that sharded gradients gave, on every process."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def seed_draws(*place: int) -> None:
    """Set every generator that training draws from, by its `place` alone: the run's seed, the step, the micro-batch."""
    state = int(np.random.SeedSequence(place).generate_state(1)[0])
    random.seed(state)
    np.random.seed(state)
    torch.manual_seed(state)


def step_if(sound: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """`optimizer.step()` where `sound` [] is true; torch's fused kernels decide that on the device, which nothing waits for."""
    if skips_on_device(optimizer):
        own = inner(optimizer)
        own.found_inf, own.grad_scale = (~sound).float(), None  # as GradScaler tells them
        optimizer.step()
    elif sound:
        optimizer.step()


@torch.no_grad()
def evaluate_loss(
    accelerator: Accelerator, model: nn.Module, batches: Iterable[Batch], step_loss: StepLoss, num_targets: Count
) -> tuple[float, int]:
    """Loss in nats per target over all processes' `batches`, weighted by token, and the number of targets."""
    model.eval()
    sums = torch.zeros(2, dtype=torch.float64, device=accelerator.device)
    for batch in batches:
        batch = to_device(batch, accelerator.device)
        sums += torch.stack((step_loss(model, batch), num_targets(batch)))
    loss, targets = total(accelerator, sums).tolist()
    return loss / max(1.0, targets), int(targets)


def is_due(step: int, every: int) -> bool:
    """Whether something that is done every so many steps (0: never) is to be done after `step`."""
    return every > 0 and step % every == 0


def to_device(batch: Batch, device: torch.device) -> Batch:
    """`batch` on `device`; single numbers stay on the host, which needs them to call kernels."""
    if device.type == "cuda":  # from pinned memory the copy waits for nothing
        batch = {name: x.pin_memory() if x.ndim else x for name, x in batch.items()}
    return {name: x.to(device, non_blocking=True) if x.ndim else x for name, x in batch.items()}


def peak_memory(device: torch.device) -> float:
    """Highest memory of the device so far, GiB; 0 on the CPU."""
    return torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0


def total(accelerator: Accelerator, value: Tensor) -> Tensor:
    """The sum of `value` over the processes."""
    return accelerator.reduce(value, "sum")
