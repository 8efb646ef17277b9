"""Successive halving (Jamieson & Talwalkar 2016; asynchronous: Li et al. 2020): where candidates are compared, and who goes on.

A candidate goes on from a rung where it is among the best third of those that came so far.
"""

from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner

FACTOR = 3  # each rung has so many times the steps of the one before, and a share of one in so many goes on from it
NEAR = 1.5  # a rung behind which so little is left, as a factor, would save nothing


def rungs(steps: int, least: int, below: int = 2) -> list[int]:
    """Steps at which a training of `steps` is scored, the last one its end.

    At most `below` rungs below the end, the first one at `least` steps or later: before, a score is the new head's noise.
    """
    first = max(1, least, -(-steps // FACTOR**below))
    return [*(at for at in (first * FACTOR**n for n in range(below)) if at * NEAR < steps), steps]


def pruner(found: list[int]) -> BasePruner:
    """Ends the hopeless at all of `rungs` but the last, for scores that are reported under their steps."""
    return SuccessiveHalvingPruner(min_resource=found[0], reduction_factor=FACTOR) if found[1:] else NopPruner()
