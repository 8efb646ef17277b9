"""One optimiser step at a time: the loop yields, the recipe decides what to log, evaluate and save."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

Batch = dict[str, Tensor]
StepLoss = Callable[[nn.Module, Batch], Tensor]
Count = Callable[[Batch], Tensor]


@dataclass(frozen=True)
class StepReport:
    """What one optimiser step did, summed over micro-batches and processes."""

    step: int  # optimiser steps done, from 1
    loss: float  # nats per target, before the step
    targets: int  # positions the loss counted
    tokens: int  # tokens the model read; on a GPU with the padding to static shapes
    grad_norm: float  # before clipping
    lr: float  # rate that this step used
    seconds: float  # wall time of the step, data loading included
    memory_gib: float  # highest device memory so far, GiB; 0 on the CPU


def train_steps(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    learning_rate: Callable[[int], float],
    steps: Iterable[list[Batch]],
    step_loss: StepLoss,
    num_targets: Count,
    *,
    max_grad_norm: float = 1.0,
    first_step: int = 0,
) -> Iterator[StepReport]:
    """Train `model` in place on `steps` (each a list of this process's micro-batches), yielding after every optimiser step.

    `step_loss(model, batch)` is a SUM over the batch's targets, `num_targets(batch)` their number. The gradient is the sum over
    all micro-batches and processes divided by all their targets: it does not depend on how the step was cut up.
    """
    start = time.perf_counter()
    for step, batches in enumerate(steps, first_step + 1):
        model.train()
        batches = [to_device(batch, accelerator.device) for batch in batches]
        counts = torch.stack(
            [
                torch.stack((num_targets(b), torch.tensor(b["input_ids"].numel(), device=accelerator.device)))
                for b in batches
            ]
        )
        targets, tokens = total(accelerator, counts.sum(0))
        loss_sum = torch.zeros((), device=accelerator.device)
        for i, batch in enumerate(batches):
            with torch.enable_grad() if i == len(batches) - 1 else accelerator.no_sync(model):
                loss = step_loss(model, batch)
                # DDP takes the mean of the processes' gradients; we want their sum.
                accelerator.backward(loss * accelerator.num_processes / targets.clamp(min=1))
                loss_sum += loss.detach()
        grad_norm = accelerator.clip_grad_norm_(model.parameters(), max_grad_norm or float("inf"))
        rate = learning_rate(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)  # of a group with a rate of its own
        optimizer.step()
        optimizer.zero_grad()
        loss_sum = total(accelerator, loss_sum)
        now = time.perf_counter()
        yield StepReport(
            step=step,
            loss=(loss_sum / targets.clamp(min=1)).item(),
            targets=int(targets),
            tokens=int(tokens),
            grad_norm=float(grad_norm),
            lr=rate,
            seconds=now - start,
            memory_gib=torch.cuda.max_memory_allocated() / 2**30 if accelerator.device.type == "cuda" else 0.0,
        )
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
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def total(accelerator: Accelerator, value: Tensor) -> Tensor:
    """The sum of `value` over the processes."""
    return accelerator.reduce(value, "sum")
