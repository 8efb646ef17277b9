"""One optimiser step at a time: the loop yields, the recipe decides what to log, evaluate and save."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

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
        if self._ready is not None:
            self._ready.synchronize()
        return float(self._host[number])


@dataclass(frozen=True)
class StepReport:
    """What one optimiser step did, summed over micro-batches and processes.

    To ask for one of the sums waits for the device to have done the step: ask one step late, and the device never waits.
    """

    step: int  # optimiser steps done, from 1
    lr: float  # rate that this step used
    seconds: float  # wall time since the step before was handed out, data loading included
    memory_gib: float  # highest device memory so far, GiB; 0 on the CPU
    sums: Readback  # nats, targets, tokens, norm

    @property
    def loss(self) -> float:
        """Nats per target, before the step."""
        return self.sums[0] / max(1.0, self.sums[1])

    @property
    def targets(self) -> int:
        """Positions the loss counted."""
        return int(self.sums[1])

    @property
    def tokens(self) -> int:
        """Tokens the model read; on a GPU with the padding to static shapes."""
        return int(self.sums[2])

    @property
    def grad_norm(self) -> float:
        """Norm of the gradient before clipping."""
        return self.sums[3]

    def numbers(self) -> dict[str, Any]:
        """All of it, as a line of a log."""
        names = ("step", "loss", "targets", "tokens", "grad_norm", "lr", "seconds", "memory_gib")
        return {name: getattr(self, name) for name in names}


class OneLate:
    """Hands every report to `write` when the next one comes, by when its numbers have arrived; `now`: at once."""

    def __init__(self, write: Callable[[dict[str, Any]], None]) -> None:
        self.write = write
        self.held: list[StepReport] = []

    def __call__(self, report: StepReport, now: bool = False) -> None:
        self.held.append(report)
        while len(self.held) > (0 if now else 1):
            self.write(self.held.pop(0).numbers())


def train_steps(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    learning_rate: Callable[[int], float],
    steps: Iterable[list[Batch]],
    step_loss: StepLoss,
    num_targets: Count,
    max_grad_norm: float = 1.0,
    first_step: int = 0,
) -> Iterator[StepReport]:
    """Train `model` in place on `steps` (each a list of this process's micro-batches), yielding after every optimiser step.

    `step_loss(model, batch)` is a SUM over the batch's targets, `num_targets(batch)` their number. The gradient is the sum over
    all micro-batches and processes divided by all their targets: it does not depend on how the step was cut up.
    """
    device, start = accelerator.device, time.perf_counter()
    for step, batches in enumerate(steps, first_step + 1):
        model.train()
        batches = [to_device(batch, device) for batch in batches]
        tokens = torch.tensor(sum(b["input_ids"].numel() for b in batches), device=device)
        counts = total(accelerator, torch.stack((torch.stack([num_targets(b) for b in batches]).sum(), tokens)))
        nats = torch.zeros((), device=device)
        for i, batch in enumerate(batches):
            with torch.enable_grad() if i == len(batches) - 1 else accelerator.no_sync(model):
                loss = step_loss(model, batch)
                # DDP takes the mean of the processes' gradients; we want their sum.
                accelerator.backward(loss * accelerator.num_processes / counts[0].clamp(min=1))
                nats += loss.detach()
        norm = accelerator.clip_grad_norm_(model.parameters(), max_grad_norm or float("inf"))
        rate = learning_rate(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)  # of a group with a rate of its own
        optimizer.step()
        optimizer.zero_grad()
        sums = torch.stack([x.double() for x in (total(accelerator, nats), *counts, norm)])
        now = time.perf_counter()
        yield StepReport(step, rate, now - start, peak_memory(device), Readback(sums))
        start = time.perf_counter()


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
