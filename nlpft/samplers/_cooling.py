"""Temperatures of simulated annealing: how the chain of accepted candidates follows from what was scored, in order.

A chain is a pure function of its moves, so nothing but the study's trials is stored: functools.reduce over `after` gives it.
"""

import itertools
import math
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

Cooling = Literal["linear", "exponential", "adaptive"]
AIM = 0.44  # acceptance in the middle of an adaptive schedule


class Move(NamedTuple):
    """A candidate that was proposed and scored."""

    point: Any
    energy: float  # inf where the trial was pruned
    chance: float  # 0 to 1: it is accepted where that is below Metropolis' probability


class Schedule(NamedTuple):
    """How temperatures go."""

    cooling: Cooling
    first: float | None  # initial temperature; None: estimated
    acceptance: float  # of rises, by which it is estimated
    probes: int  # moves of a random walk, from which it is estimated
    moves: int  # in all, probes included
    end: float  # exponential: share of the initial temperature at the end
    patience: int  # moves without a new best after which it is re-heated; 0: never
    reheat: float  # share of the initial temperature that it is re-heated to


class Chain(NamedTuple):
    """Where a chain stands."""

    point: Any
    energy: float
    best: Any
    least: float
    walk: tuple[float, ...]  # energies of the random walk at its beginning
    first: float = math.inf  # initial temperature
    temperature: float = math.inf
    step: int = 0
    since: int = 0  # step of the last re-heating, or of the end of the walk
    waited: int = 0  # moves without a new best
    heat: float = 1.0  # share of the initial temperature that it began to cool from
    rate: float = 1.0  # running share of moves that were accepted


def metropolis(rise: float, temperature: float) -> float:
    """Probability of accepting a candidate whose energy is higher by `rise` (Metropolis et al. 1953)."""
    if rise <= 0:
        return 1.0
    if temperature <= 0 or rise == math.inf:
        return 0.0
    return math.exp(-rise / temperature)


def estimated(energies: Iterable[float], acceptance: float) -> float:
    """Temperature that accepts the mean rise of a random walk with probability `acceptance` (Johnson et al. 1989).

    Of a walk that never rises 0: then only what is better is accepted.
    """
    walk = [x for x in energies if math.isfinite(x)]
    rises = [abs(b - a) for a, b in itertools.pairwise(walk) if a != b]
    return sum(rises) / len(rises) / -math.log(acceptance) if rises else 0.0


def begin(start: Move, schedule: Schedule) -> Chain:
    """The chain that stands at `start`."""
    state = Chain(start.point, start.energy, start.point, start.energy, (start.energy,))
    return state if schedule.first is None else _heated(state, schedule.first)


def after(state: Chain, move: Move, schedule: Schedule) -> Chain:
    """The chain behind one more move."""
    if state.temperature < math.inf:
        return _moved(state, move, schedule)
    state = _seen(state, move)._replace(step=state.step + 1, walk=(*state.walk, move.energy))
    if math.isfinite(move.energy):  # a walk goes where it is led
        state = state._replace(point=move.point, energy=move.energy)
    enough = state.step == schedule.probes
    return _heated(state, estimated(state.walk, schedule.acceptance)) if enough else state


def _heated(state: Chain, first: float) -> Chain:
    """Begins to cool from `first`, at the best so far."""
    return state._replace(
        point=state.best, energy=state.least, first=first, temperature=first, since=state.step, waited=0
    )


def _seen(state: Chain, move: Move) -> Chain:
    if move.energy < state.least:
        return state._replace(best=move.point, least=move.energy, waited=0)
    return state._replace(waited=state.waited + 1)


def _moved(state: Chain, move: Move, schedule: Schedule) -> Chain:
    accepted = move.chance < metropolis(move.energy - state.energy, state.temperature)
    state = _seen(state, move)
    if accepted:
        state = state._replace(point=move.point, energy=move.energy)
    window = max(5, schedule.moves // 20)
    state = state._replace(step=state.step + 1, rate=state.rate + (accepted - state.rate) / window)
    if schedule.patience and state.waited >= schedule.patience:
        heated = _heated(state, state.first)
        return heated._replace(temperature=state.first * schedule.reheat, heat=schedule.reheat, rate=1.0)
    return state._replace(temperature=COOLING[schedule.cooling](state, schedule))


def _progress(state: Chain, schedule: Schedule) -> float:
    """Share of the moves since the last heating that is done, 0 to 1."""
    return min(1.0, (state.step - state.since) / max(1, schedule.moves - state.since))


def _linear(state: Chain, schedule: Schedule) -> float:
    return state.first * state.heat * (1 - _progress(state, schedule))


def _exponential(state: Chain, schedule: Schedule) -> float:
    """Kirkpatrick et al. 1983: by the same factor in every move."""
    return state.first * state.heat * schedule.end ** _progress(state, schedule)


def _adaptive(state: Chain, schedule: Schedule) -> float:
    """The modified Lam schedule (Boyan 1998): up where less is accepted than it wants at this point, else down."""
    factor = math.exp(10 / max(10, schedule.moves))
    wanted = wanted_acceptance(_progress(state, schedule))
    return state.temperature / factor if state.rate > wanted else state.temperature * factor


def wanted_acceptance(progress: float) -> float:
    """From 1 quickly to 0.44, where it stays for half of the moves, then towards 0."""
    if progress < 0.15:
        return AIM + (1 - AIM) * 560 ** (-progress / 0.15)
    return AIM if progress < 0.65 else AIM * 440 ** (-(progress - 0.65) / 0.35)


COOLING = {"linear": _linear, "exponential": _exponential, "adaptive": _adaptive}
