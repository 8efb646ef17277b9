"""Simulated evaluations: equal models differ as often as the level says, planted differences are found as often as promised.

Simulated items are enough that a test off by a third is told from a right one; each bound is two to three standard errors wide.
"""

from functools import cache

import numpy as np
import pytest
from evaluations import evaluation
from scipy import stats

from nlpft.evaluation import statistics
from nlpft.evaluation.compare import Settings, compare

QUICK = Settings(resamples=1000)


def right_or_wrong(rng, items):
    """Answers of two equal models to the same items, of which some are harder than others."""
    chance = rng.beta(1.0, 1.0, items)
    return [(rng.random(items) < chance).astype(float) for _ in "ab"]


def scores(rng, items):
    """Scores of two equal models, alike because the items are the same; far from normally distributed."""
    common = rng.gamma(2.0, size=items)
    return [common + rng.gamma(1.0, size=items) for _ in "ab"]


def compared(a, b, settings=QUICK):
    """`a` and `b`: metric -> values [items]."""
    return compare(
        *(evaluation(name, **{k: v.tolist() for k, v in of.items()}) for name, of in (("a", a), ("b", b))), settings
    )


def alarms(draw, measures, runs, items=60):
    """Shares of comparisons of equal models by `measures` measures: any p <= 5 %, any corrected p <= 5 %, any verdict."""
    found = np.zeros(3)
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        a, b = zip(*(draw(rng, items) for _ in range(measures)), strict=True)
        made = compared(*({f"m{i}": values for i, values in enumerate(side)} for side in (a, b)))
        for i, said in enumerate(("p_value", "p_adjusted")):
            found[i] += min(getattr(c, said) for c in made) <= 0.05
        found[2] += any(c.verdict != "no difference shown" for c in made)
    return found / runs


def test_equal_models_of_real_scores_differ_one_time_in_twenty():
    plain, corrected, verdict = alarms(scores, 1, 300)
    assert plain == corrected == pytest.approx(0.05, abs=0.02)
    assert verdict <= plain


def test_equal_models_of_right_and_wrong_differ_at_most_one_time_in_twenty():
    plain, corrected, verdict = alarms(right_or_wrong, 1, 300)
    assert 0.01 < plain <= 0.05  # the exact test keeps below its level: with some 20 items that differ, at 3 %
    assert plain == corrected >= verdict


@pytest.mark.parametrize(("draw", "least"), [(scores, 0.02), (right_or_wrong, 0.005)])
def test_over_five_measures_only_the_correction_keeps_false_alarms_near_one_in_twenty(draw, least):
    plain, corrected, verdict = alarms(draw, 5, 120)
    assert plain > 0.1  # 1 - 0.95**5 = 0.23; of the exact test some 0.14
    assert least <= corrected <= 0.1
    assert verdict <= corrected


def test_interval_holds_the_true_difference_as_often_as_it_says():
    truth, runs, held, bound = 0.1, 300, 0, 0
    for seed in range(runs):
        gains = np.random.default_rng([seed, 1]).normal(-truth, 1.0, 80)
        (c,) = compared({"m": np.zeros(80)}, {"m": gains}, Settings(0.9, resamples=1000))
        held += c.low <= -truth <= c.high
        bound += truth <= c.loss_bound
    assert held / runs == pytest.approx(
        0.89, abs=0.035
    )  # percentile intervals of 80 items are a little short: 3,000 runs
    assert bound / runs == pytest.approx(0.89, abs=0.035)  # a one-sided statement, at the same confidence


def held(gained, lost, items=60, most=18):
    """How often intervals at 95 % hold the true difference, how often the one-sided bound does, and how often 0 is excluded.

    gained, lost: expected numbers of items. Every outcome of up to `most` items either way, weighed by its probability.
    """
    truth, shares = (gained - lost) / items, np.zeros(3)
    for up, down in np.ndindex(most, most):
        weight = stats.multinomial.pmf(
            [up, down, items - up - down], items, [gained / items, lost / items, 1 - (gained + lost) / items]
        )
        low, high = interval(up, down, items, 0.95)
        shares += weight * np.array(
            [low <= truth <= high, interval(up, down, items, 0.9)[0] <= truth, not low <= 0 <= high]
        )
    return shares


@cache
def interval(up, down, items, confidence):
    return statistics.paired_proportions(down, up, items, confidence)


@pytest.mark.parametrize("gained", [0.3, 1, 4, 7])
@pytest.mark.parametrize("lost", [0.3, 1, 4, 7])
def test_interval_of_few_flips_holds_the_true_difference_at_least_as_often_as_it_says(gained, lost):
    both, one_sided, _ = held(gained, lost)
    assert 0.955 < both <= 1
    assert 0.945 < one_sided <= 1


@pytest.mark.parametrize("flips", [0.3, 1, 2, 4])
def test_equal_models_that_differ_in_few_items_are_told_apart_at_most_one_time_in_twenty(flips):
    assert held(flips, flips)[2] <= 0.05


def planted_scores(rng, size, items=100):
    return np.zeros(items), rng.normal(size, 1.0, items)


def planted_right_or_wrong(rng, size, items=200):
    """Of the items 30 % change; `size` is by how much more of them for the better."""
    change = rng.random(items)
    gain, loss = change < (0.3 + size) / 2, change > 1 - (0.3 - size) / 2
    same = (rng.random(items) < 0.5) & ~gain & ~loss
    return (same | loss).astype(float), (same | gain).astype(float)


def first_of(plant, seed, size, measures):
    """The comparison on the planted measure; nothing changed on the others."""
    rng = np.random.default_rng([seed, 7])
    a, b = plant(rng, size)
    pairs = [(a, b), *(right_or_wrong(rng, len(a)) for _ in range(measures - 1))]
    sides = ({f"m{i}": pair[side] for i, pair in enumerate(pairs)} for side in (0, 1))
    return compared(*sides, Settings(resamples=1000))[0]


@pytest.mark.parametrize("measures", [1, 3])
@pytest.mark.parametrize(("plant", "least"), [(planted_scores, 0.74), (planted_right_or_wrong, 0.7)])
def test_detectable_difference_is_found_four_times_in_five(plant, least, measures):
    """The exact test, which keeps below its level, finds it a little less often."""
    promised = np.mean([first_of(plant, seed, 0.0, measures).detectable for seed in range(20)])
    found = [first_of(plant, seed, promised, measures).verdict == "better" for seed in range(100, 260)]
    assert least < np.mean(found) < 0.87
