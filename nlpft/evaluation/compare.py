"""Whether other evaluations are better than a first one: paired statistics over the same items. Loads no torch.

All models answered the same items, so the statistics are those of the differences item by item (Dror et al. 2018, "The
hitchhiker's guide to testing statistical significance in NLP"; Miller 2024, "Adding error bars to evals"); statistics.py says
which. One correction covers all that is compared at once: every model, task, filter and metric.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from nlpft.errors import ConfigError, DataError, some
from nlpft.evaluation import statistics
from nlpft.evaluation.comparison import Comparison, Test, corrected
from nlpft.evaluation.corpus import Score
from nlpft.evaluation.items import Evaluation, Pair, Source, read
from nlpft.evaluation.pairs import CLUSTER, Paired, check_cluster, grouped, paired, pairs_of

INACTIVE = "identical answers: the adapter may not be active"
PROBED = "the adapter is inactive: with and without it, every logit of a probe is the same"


@dataclass(frozen=True)
class Settings:
    """How evaluations are compared."""

    confidence: float = 0.95
    """Share of intervals that hold the true difference; a verdict needs a corrected p-value of at most 1 minus this."""
    retention: tuple[str, ...] = ()
    """Tasks or groups that show what was forgotten, beside those whose task file says `metadata: {retention: true}`."""
    by_group: bool = True
    """Tasks of one group are one line, over all their items: lm-eval's own groups (MMLU's subjects), and task files that say
    `metadata: {group: NAME}`."""
    cluster: str = CLUSTER
    """Field of an item by which items belong together, such as passage for BoolQ: they count as one."""
    resamples: int = 10_000
    """Draws of the bootstrap and of the permutation test, at least 1,000; of the latter more where the correction needs them."""
    seed: int = 0
    """Of those draws."""


DEFAULT = Settings()
LEAST_RESAMPLES = 1_000
FEW = 10  # units that differ: fewer, drawn again, do not show what loss there may be
MARGIN = 4  # the smallest corrected p-value that random signs can give is the level / MARGIN


def compare(base: Source, other: Source, settings: Settings = DEFAULT) -> list[Comparison]:
    """`compare_all` of a single other."""
    return compare_all(base, [other], settings)[0]


def compare_all(
    base: Source, others: Sequence[Source], settings: Settings = DEFAULT, families: int = 1
) -> list[list[Comparison]]:
    """Each of `others` against `base` in every task, filter and metric that both have values of for each item.

    One correction covers them all. families: as many such comparisons will stand under one correction (`corrected`). Raises
    DataError where a folder is no evaluation or two are not of the same items, ConfigError for settings that mean nothing.
    """
    _check(settings)
    base, read_others = read(base), [read(other) for other in others]
    if settings.cluster != CLUSTER:
        check_cluster(base, settings.cluster)
    retained = _retained(settings.retention, [base, *read_others])
    measures = [_measures(base, other, settings) for other in read_others]
    tests = families * sum(_differs(p) for ps in measures for p in ps)
    found = [[_comparison(p, settings, tests, p.task in retained) for p in ps] for ps in measures]
    together = iter(corrected([c for made in found for c in made]))
    return [[next(together) for _ in made] for made in found]


def _check(settings: Settings) -> None:
    if not 0.5 < settings.confidence < 1:
        raise ConfigError(f"confidence is a share between 0.5 and 1, such as 0.95, not {settings.confidence:g}")
    if settings.resamples < LEAST_RESAMPLES:
        raise ConfigError(
            f"resamples: {settings.resamples} draws tell no interval and no p-value; give at least {LEAST_RESAMPLES:,}"
        )


def faults(base: Source, other: Source) -> list[str]:
    """What makes the numbers of `compare` worthless, or fewer: tasks that failed, and an adapter without effect."""
    base, other = read(base), read(other)
    failed = [f"{e.label}: {task} failed: {why}" for e in (base, other) for task, why in e.errors.items()]
    pairs = [pair for key in base.samples if key in other.samples for pair in pairs_of(base, other, *key)]
    same = all(a.get(key) == b.get(key) for a, b in pairs for key in ("resps", "filtered_resps", "loss_sum"))
    return failed + [PROBED] * other.inactive + [INACTIVE] * (same and not other.inactive)


def notes(base: Source, other: Source) -> list[str]:
    """What the numbers of `compare` do not show: `faults` first; then answers, tasks and metrics that were left out."""
    base, other = read(base), read(other)
    unread = [
        f"{e.label}: {number:,} answers of {where.replace(',', ', ')} could not be read; they count as wrong"
        for e in (base, other)
        for where, number in e.unparsed.items()
    ]
    left_out = [why for p, why in paired(base, other) if not p]
    alone = [
        f"{task} ({filter_}) is only in {here.folder}: not compared"
        for here, there in ((base, other), (other, base))
        for task, filter_ in sorted(here.samples.keys() - there.samples.keys())
    ]
    return faults(base, other) + unread + alone + left_out


def flips(
    base: Source, other: Source, task: str, metric: str, filter_: str | None = None
) -> tuple[list[Pair], list[Pair]]:
    """Items on which `other` is better, and those on which `base` is; the largest changes of `metric` first.

    `task` may be a group; `filter_` defaults to the task's first. Raises DataError where the two have no such task or metric
    in common.
    """
    base, other = read(base), read(other)
    alone = [p for p, _ in paired(base, other) if p]
    for p in [*alone, *grouped(alone, {**base.groups, **other.groups})]:
        if (p.task, p.metric) == (task, metric) and filter_ in (None, p.filter):
            gain = p.other - p.base if p.higher_is_better else p.base - p.other
            order = np.argsort(-abs(gain), kind="stable")
            return [p.pairs[i] for i in order if gain[i] > 0], [p.pairs[i] for i in order if gain[i] < 0]
    raise DataError(f"{base.folder} and {other.folder} have no metric {metric!r} of task {task!r} in common")


def _measures(base: Evaluation, other: Evaluation, settings: Settings) -> list[Paired]:
    alone = [p for p, _ in paired(base, other, settings.cluster) if p]
    return grouped(alone, {**base.groups, **other.groups}) if settings.by_group else alone


def _retained(names: Sequence[str], evaluations: Sequence[Evaluation]) -> set[str]:
    """Tasks and groups that show what was forgotten. Raises ConfigError where one of `names` was not evaluated."""
    groups = {task: group for e in evaluations for task, group in e.groups.items()}
    known = {task for e in evaluations for task, _ in e.samples}
    known |= {groups[task] for task in known & groups.keys()}
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"retention: no task {unknown[0]!r} was evaluated; there are {some(sorted(known), 20)}")
    marked = {*names, *(task for e in evaluations for task in e.retained)}
    around = {groups[task] for task in marked & groups.keys()}
    return marked | around | {task for task, group in groups.items() if group in marked}


def _differs(p: Paired) -> bool:
    before, after = (p.corpus.base, p.corpus.other) if p.corpus else (p.base, p.other)
    return bool((before != after).any())


def _comparison(p: Paired, settings: Settings, tests: int, retention: bool) -> Comparison:
    """Not yet corrected. tests: how many p-values the correction will cover."""
    gains, total = p.other - p.base, p.weights.sum()
    better = gains > 0 if p.higher_is_better else gains < 0
    other_only, base_only = int(better.sum()), int((gains != 0).sum() - better.sum())
    binary = bool(np.isin([p.base, p.other], (0, 1)).all() and (p.weights == 1).all())
    units, weights = (statistics.by_cluster(values, p.clusters) for values in (gains, p.weights))
    exact = binary and len(units) == len(gains) and not p.corpus
    differ = (units != 0).sum()
    base, other = p.base.sum() / total, p.other.sum() / total
    if p.corpus:
        binary = False
        base, other = (float(p.corpus.score(x.sum(0))) for x in (p.corpus.base, p.corpus.other))
        before, after = (statistics.by_cluster(x, p.clusters) for x in (p.corpus.base, p.corpus.other))
        differ = (before != after).any(1).sum()
        found = _of_corpus(before, after, p.corpus.score, settings, tests)
    else:
        found = _of_flips(gains, settings) if exact else _of_draws(units, weights, settings, tests)
    least, most = found.one_sided
    bound = -least if p.higher_is_better else most
    return Comparison(
        task=p.task, filter=p.filter, metric=p.metric, binary=binary, higher_is_better=p.higher_is_better,
        n=len(gains), base=base, other=other, difference=other - base if p.corpus else gains.sum() / total,
        low=found.low, high=found.high, confidence=settings.confidence, p_value=found.p_value, test=found.test,
        p_adjusted=found.p_value, base_only=base_only, other_only=other_only, error=found.error, detectable=None,
        loss_bound=max(0.0, bound) if exact or differ >= FEW else None, clusters=len(units), tasks=p.tasks,
        retention=retention,
    )  # fmt: skip


class _Found(NamedTuple):
    """What is told of a difference."""

    p_value: float
    test: Test
    low: float
    high: float
    one_sided: tuple[float, float]  # bounds, each of them alone at the confidence
    error: float  # standard


def _of_flips(gains: np.ndarray, settings: Settings) -> _Found:
    """Of items [items] that turned right (1), wrong (-1), or neither."""
    lost, won = int((gains < 0).sum()), int((gains > 0).sum())
    both, each = (
        statistics.paired_proportions(lost, won, len(gains), c)
        for c in (settings.confidence, 2 * settings.confidence - 1)
    )
    return _Found(
        statistics.mcnemar(lost, won), "McNemar", *both, each, float(gains.std(ddof=1)) / math.sqrt(len(gains))
    )


def _of_draws(units: np.ndarray, weights: np.ndarray, settings: Settings, tests: int) -> _Found:
    """Of any values and their weights [units]."""
    drawn = statistics.bootstrap(units, weights, settings.seed, settings.resamples)
    p_value = _enough(partial(statistics.sign_flip, units, settings.seed), settings, tests)
    return _resampled(drawn, p_value, "sign flips", settings.confidence)


def _of_corpus(base: np.ndarray, other: np.ndarray, score: Score, settings: Settings, tests: int) -> _Found:
    """Of what each unit adds to a metric of the whole corpus, [units, n]."""
    drawn = statistics.bootstrap_sums(base, other, score, settings.seed, settings.resamples)
    p_value = _enough(partial(statistics.swap, base, other, score, settings.seed), settings, tests)
    return _resampled(drawn, p_value, "swaps", settings.confidence)


def _resampled(drawn: np.ndarray, p_value: float, test: Test, confidence: float) -> _Found:
    """Of differences drawn [draws]. Their interval excludes 0 only where the test does, too."""
    low, high = _quantiles(drawn, confidence)
    if p_value > 1 - confidence:
        low, high = min(low, 0.0), max(high, 0.0)
    one_sided = _quantiles(drawn, 2 * confidence - 1)
    return _Found(p_value, test, low, high, one_sided, float(drawn.std(ddof=1)))


def _enough(test: Callable[[int], float], settings: Settings, tests: int) -> float:
    """The p-value of `test`; of more draws where as few as asked for could not tell it from one that the correction lets pass."""
    alpha, asked = 1 - settings.confidence, settings.resamples
    p_value = test(asked)
    enough = math.ceil(MARGIN * tests / alpha)
    if p_value > MARGIN / asked or enough <= asked:
        return p_value
    return test(enough)


def _quantiles(drawn: np.ndarray, confidence: float) -> tuple[float, float]:
    """Bounds that leave out as much on either side."""
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
