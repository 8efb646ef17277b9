"""The budget that all strategies share, and what of it is spent: rows are counted where the model is called.

A step's worth is `rows_per_step` rows forward and backward. Forward without gradients is a third of that, because backward
computes two products for each one of forward (Kaplan et al. 2020, section 2.1); backward a second time through the same
activations is two thirds. How many weights train changes nothing in steps; in seconds it does.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nlpft.errors import ConfigError, TrainingError
from nlpft.models.heads import with_head

FORWARD, AGAIN = 1 / 3, 2 / 3  # of a pass forward and backward
ROUNDING = 1e-6
LATE = 1.1  # of the seconds: what was begun in time may end so late; the clock of a shared machine is no exact one


@dataclass(frozen=True)
class BudgetConfig:
    steps: float = 0.0
    """Optimiser steps that each strategy may spend: data.rows_per_step rows forward and backward are one, forward alone a third
    of one, whatever they are for. 0: seconds are counted."""
    seconds: float = 0.0
    """Seconds that each strategy may take. Give either this or steps; with it, a seed does not repeat a result."""


class Spent(NamedTuple):
    """What a strategy has spent."""

    steps: float  # all of it, in steps' worth
    optimizer_steps: int
    rows: int  # forward and backward
    forward_rows: int  # forward alone: evaluations, teachers
    again_rows: int  # backward a further time
    seconds: float


def check(config: BudgetConfig) -> None:
    """Raise ConfigError unless exactly one limit is set."""
    if min(config.steps, config.seconds) < 0 or (config.steps > 0) == (config.seconds > 0):
        raise ConfigError(
            f"budget.steps {config.steps:g}, budget.seconds {config.seconds:g}: set one of them, above 0; it is the same for all "
            "strategies"
        )


class Meter:
    """Counts what goes through the model since `begin`. `used` and `limit` are in the budget's unit: steps or seconds."""

    def __init__(
        self, config: BudgetConfig, rows_per_step: int, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        check(config)
        self.config, self.rows_per_step, self.clock = config, rows_per_step, clock
        self.timed, self.limit = config.seconds > 0, config.seconds or config.steps
        self.paces: list[tuple[float, float]] = []  # (steps, seconds) of what was done before
        self.begun, self.off = clock(), 0.0
        self.running = False
        self.begin()

    def begin(self) -> None:
        """Set all counts to 0; from now on they count."""
        self.rows = self.forward_rows = self.again_rows = self.optimizer_steps = 0
        self.begun, self.off, self.running = self.clock(), 0.0, True

    def stop(self) -> Spent:
        """Count no more; what was spent."""
        found, self.running = self.spent(), False
        if self.steps:
            self.paces = [*self.paces[-9:], (self.steps, self.seconds)]
        return found

    @property
    def steps(self) -> float:
        passes = self.rows + FORWARD * self.forward_rows + AGAIN * self.again_rows
        return passes / self.rows_per_step

    @property
    def seconds(self) -> float:
        return self.clock() - self.begun - self.off

    @property
    def used(self) -> float:
        return self.seconds if self.timed else self.steps

    def spent(self) -> Spent:
        return Spent(
            self.steps, self.optimizer_steps, self.rows, self.forward_rows, self.again_rows, round(self.seconds, 3)
        )

    def forward_cost(self, rows: int) -> float:
        """Steps' worth of sending so many rows forward."""
        return FORWARD * rows / self.rows_per_step

    def units(self, steps: float) -> float:
        """What so many steps' worth cost in the budget's unit: seconds at the pace so far."""
        if not self.timed:
            return steps
        known = [*self.paces, (self.steps, self.seconds)] if self.steps else self.paces
        done = sum(pair[0] for pair in known)
        return steps * sum(pair[1] for pair in known) / done if done else 0.0

    def part(self, share: float) -> float:
        """Where `used` will stand when so large a share of what is left is spent."""
        return self.used + share * max(0.0, self.limit - self.used)

    def affords(self, steps: float, until: float | None = None) -> bool:
        """Whether so many steps' worth can be spent before `used` passes `until`, or the limit."""
        end = self.limit if until is None else min(until, self.limit)
        return self.used + self.units(steps) <= end + ROUNDING

    def count(self, rows: int, kind: str) -> None:
        """Count rows of a kind: rows, forward_rows, again_rows. Raises TrainingError beyond the limit."""
        if not self.running:
            return
        setattr(self, kind, getattr(self, kind) + rows)
        most = self.limit * LATE if self.timed else self.limit + ROUNDING
        if self.used > most:
            unit = "seconds" if self.timed else "steps"
            raise TrainingError(
                f"the strategy spends more than budget.{unit} {self.limit:g} ({self.used:.4g}); let it ask lab.meter.affords "
                "before it sends rows through the model"
            )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within it nothing is counted, and no time passes."""
        before, running = self.clock(), self.running
        self.running = False
        try:
            yield
        finally:
            self.running = running
            self.off += self.clock() - before


def attach(model: nn.Module, meter: Meter) -> None:
    """Have `meter` count every row that the body of `model` reads from now on, and every further backward."""
    body: Any = with_head(model).base_model
    compute = body.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        rows, trains = _rows(args, kwargs), torch.is_grad_enabled()
        meter.count(rows, "rows" if trains else "forward_rows")
        output = compute(*args, **kwargs)
        if trains and output[0].requires_grad:
            _count_backwards(output[0], rows, meter)
        return output

    body.forward = forward


def _rows(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    if kwargs.get("cu_seq_lens_q") is not None:
        return len(kwargs["cu_seq_lens_q"]) - 1
    read: Tensor = args[0] if args else kwargs["input_ids"]
    return len(read)


def _count_backwards(output: Tensor, rows: int, meter: Meter) -> None:
    """The first backward is in the price of the forward."""
    seen = [False]

    def hook(gradient: Tensor) -> None:
        if seen[0]:
            meter.count(rows, "again_rows")
        seen[0] = True

    output.register_hook(hook)
