"""Learning-rate schedules: the factor of the highest rate as a pure function of how much of the run is done."""

import math
from collections.abc import Callable
from typing import NamedTuple


class Span(NamedTuple):
    """What a schedule may go by, besides the share of it that is done."""

    warmup: int  # steps before the schedule begins
    steps: int  # steps of the schedule, behind warm-up
    cycles: int = 1
    end: float = 0.01
    cooldown: float = 0.2


def constant(done: float, span: Span) -> float:
    return 1.0


def linear(done: float, span: Span) -> float:
    return 1 - done


def cosine(done: float, span: Span) -> float:
    return 0.5 * (1 + math.cos(math.pi * done))


def cosine_restarts(done: float, span: Span) -> float:
    """SGDR (Loshchilov & Hutter 2017): equal cycles, each a cosine from the highest rate towards zero."""
    return cosine(done * span.cycles % 1.0, span)


def exponential(done: float, span: Span) -> float:
    return span.end**done


def inverse_sqrt(done: float, span: Span) -> float:
    """As the inverse square root of the step (Vaswani et al. 2017), from 1 where warm-up ends."""
    start = max(1, span.warmup)
    return math.sqrt(start / (start + done * span.steps))


def wsd(done: float, span: Span) -> float:
    """Warm-up, stable, decay (Hu et al. 2024): constant, then along a line to zero."""
    return min(1.0, (1 - done) / span.cooldown)


SCHEDULES: dict[str, Callable[[float, Span], float]] = {  # share that is done, from 0 to below 1 -> factor of the rate
    shape.__name__: shape for shape in (constant, linear, cosine, cosine_restarts, exponential, inverse_sqrt, wsd)
}
