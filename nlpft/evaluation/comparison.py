"""One metric of one task, of two models on the same items: the difference, how sure it is, what that means. Loads no torch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from nlpft.evaluation import statistics
from nlpft.evaluation.items import LOG_LIKELIHOODS

Test = Literal["McNemar", "sign flips", "swaps"]  # of right and wrong; of other values; of metrics of the whole corpus
Verdict = Literal["better", "worse", "no difference shown"]


@dataclass(frozen=True)
class Comparison:
    """One metric of one task, `other` against `base`, on the same `n` items.

    Values are shares of 1 for 0/1 metrics, nats per learnt token for `loss`, the metric's own unit otherwise.
    """

    task: str
    filter: str
    metric: str
    binary: bool  # every item scores 0 or 1, for all models that are compared
    higher_is_better: bool
    n: int  # items
    base: float
    other: float
    difference: float  # other - base
    low: float  # bounds of the interval of `difference`, not corrected for the number of comparisons
    high: float
    confidence: float  # share of such intervals that hold the true difference
    p_value: float  # two-sided
    test: Test  # that gave it
    p_adjusted: float  # p_value after Holm's correction for all measures in which anything differs
    base_only: int  # items that only base got right; for other than 0/1 metrics, items on which base is better
    other_only: int
    error: float  # standard error of `difference`
    detectable: float | None  # true difference found with 80 % power; None: no item differs, which tells nothing of it
    # The true loss (how much worse `other` is) is at most this, at `confidence`, one-sided; not below 0. None: too few items
    # differ to tell.
    loss_bound: float | None
    clusters: int  # independent units: `n`, or fewer where items belong together
    tasks: int = 1  # of a group
    retention: bool = False  # shows what was forgotten

    @property
    def verdict(self) -> Verdict:
        """Better or worse only where both the interval and the corrected p-value exclude no difference."""
        if self.p_adjusted > 1 - self.confidence or self.low <= 0 <= self.high:
            return "no difference shown"
        return "better" if (self.difference > 0) == self.higher_is_better else "worse"

    @property
    def differs(self) -> bool:
        """Whether any item scores otherwise: where none does, there is nothing to test."""
        return self.base_only + self.other_only > 0 or self.difference != 0

    @property
    def forgotten(self) -> str:
        """What a retention task says: a loss that is shown, or the largest that is not excluded."""
        unit = " points" if self.binary else f" {self.unit}".replace("log, ", "").rstrip()
        if self.verdict == "worse":
            return f"forgotten: {self.show(abs(self.difference))}{unit}"
        if self.loss_bound is None:
            return "too few items differ to exclude a loss"
        if self.loss_bound == 0:
            return "no loss"
        if (self.high < 0) if self.higher_is_better else (self.low > 0):  # by itself, not after the correction
            return f"a loss of up to {self.show(self.loss_bound)}{unit} is possible, not shown"
        return f"no loss beyond {self.show(self.loss_bound)}{unit}"

    def show(self, value: float, signed: bool = False) -> str:
        """A value as people read it: shares of a 0/1 metric in per cent (differences in points), others to three digits."""
        sign = "+" if signed else ""
        return f"{100 * value:{sign}.1f}" if self.binary else f"{value:{sign}.3f}"

    @property
    def unit(self) -> str:
        """Unit of `show`'s values."""
        return "%" if self.binary else "nats" if self.metric == "loss" else LOG_LIKELIHOODS.get(self.metric, "")


def corrected(found: Sequence[Comparison]) -> list[Comparison]:
    """`found` under one correction (Holm), with what it leaves detectable; one measure has one unit in all of them.

    A measure in which nothing differs can never be significant, and so is not counted among the tests (Tarone 1990).
    """
    tested = [c for c in found if c.differs]
    adjusted = iter(statistics.holm([c.p_value for c in tested]))
    graded = {(c.task, c.metric, c.filter) for c in found if not c.binary}
    made = [
        replace(c, p_adjusted=next(adjusted), detectable=_detectable(c, (1 - c.confidence) / len(tested)))
        if c.differs
        else replace(c, p_adjusted=1.0, detectable=None)
        for c in found
    ]
    return [replace(c, binary=c.binary and (c.task, c.metric, c.filter) not in graded) for c in made]


def _detectable(c: Comparison, alpha: float) -> float:
    """The true difference that is shown four times in five at level `alpha`; of right and wrong, at least as many changes as
    the exact test needs."""
    least = statistics.countable(c.n, alpha) if c.test == "McNemar" else 0.0
    return max(least, statistics.detectable(c.error, alpha))
