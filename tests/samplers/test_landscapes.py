"""Searches on landscapes whose optimum is known: each reaches it, and beats candidates drawn at random."""

import landscapes
import numpy as np
import pytest
from searches import pruned, searched

TWELVE = landscapes.bits(12)
NK, NK_BEST = landscapes.nk(12, 2)
ANNEALING = {"cooling": "adaptive"}
HILLS = {  # sampler, landscape, the optimum, settings
    "genetic on onemax": ("genetic", landscapes.onemax, 12, {}),
    "genetic on nk": ("genetic", NK, NK_BEST, {}),
    "genetic on a royal road": ("genetic", landscapes.royal_road, 13.2, {"crossover": "uniform"}),
    "genetic by rank": ("genetic", landscapes.onemax, 12, {"selection": "rank", "pressure": 1.8}),
    "genetic by roulette": ("genetic", landscapes.onemax, 12, {"selection": "roulette", "crossover": "one_point"}),
    "annealing on onemax": ("annealing", landscapes.onemax, 12, {}),
    "annealing on nk": ("annealing", NK, NK_BEST, {}),
    "annealing on a royal road": ("annealing", landscapes.royal_road, 13.2, ANNEALING),
    "annealing along a line": ("annealing", landscapes.onemax, 12, {"cooling": "linear", "temperature": 1.0}),
    "hybrid on onemax": ("hybrid", landscapes.onemax, 12, {}),
    "hybrid on nk": ("hybrid", NK, NK_BEST, {}),
    "tpe on onemax": ("tpe", landscapes.onemax, 12, {}),
}


@pytest.mark.parametrize("hill", HILLS)
def test_the_optimum_is_reached_in_a_twentieth_of_all_candidates(hill):
    name, fitness, optimum, settings = HILLS[hill]
    found = (searched(name, TWELVE, fitness, 200, seed, **settings) for seed in range(5))
    assert any(one.scored <= 200 and one.best.value == pytest.approx(optimum) for one in found)


def test_grid_and_random_score_all_of_a_small_space():
    space = landscapes.bits(4)
    for name in ("grid", "random"):
        found = searched(name, space, landscapes.trap, 16)
        assert found.best.value == 4
        assert found.scored == 16


def test_a_deceptive_trap_holds_a_search_that_only_climbs_and_lets_larger_steps_out():
    """From 'no ones' (3 each) all four bits of a block must change at once, or be in place by chance."""
    found = [searched("genetic", landscapes.bits(8), landscapes.trap, 150, seed).best.value for seed in range(5)]
    assert max(found) == 8
    stuck = searched("annealing", landscapes.bits(8), landscapes.trap, 40, 0, flips=1, temperature=1e-9, reheat_after=0)
    assert stuck.best.value < 8


def test_genetic_and_annealing_beat_random_over_forty_seeds():
    """Onemax of 16 bits with noise, 45 candidates; what counts is the true value of the candidate that seemed best."""
    space = landscapes.bits(16)

    def true_value(name: str, seed: int, settings: dict) -> float:
        draw = np.random.default_rng(seed)
        noisy = searched(
            name, space, lambda point: landscapes.onemax(point) + draw.normal(0, 0.3), 45, seed, **settings
        )
        return landscapes.onemax(noisy.best.params)

    kinds = {"random": {}, "genetic": {"population": 8}, "annealing": {}}
    found = {name: np.array([true_value(name, seed, kinds[name]) for seed in range(40)]) for name in kinds}
    for name in ("genetic", "annealing"):
        ahead = found[name] - found["random"]
        error = ahead.std(ddof=1) / np.sqrt(len(ahead))
        assert ahead.mean() - 4 * error > 0.3, (name, ahead.mean(), error)
        assert (ahead < 0).sum() <= 6


@pytest.mark.parametrize("name", ["genetic", "annealing", "hybrid"])
def test_with_pruning_where_losses_rise_in_the_end_a_search_beats_random(name):
    def ones(sampler: str, budget: int = 60) -> list[int]:
        found = (pruned(sampler, TWELVE, landscapes.overfitted, budget, 75, seed)[0] for seed in range(12))
        return [sum(one.best.params.values()) for one in found]

    assert np.mean(ones(name)) > np.mean(ones("random")) + 0.5
