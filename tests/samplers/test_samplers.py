"""What makes a sampler one: operators as they are said to be, all kinds of dimensions, and a search that goes on after a kill."""

import math
from collections import Counter

import landscapes
import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from searches import pruned, sampler, searched

from nlpft import plugins
from nlpft.errors import ConfigError
from nlpft.samplers import _dimensions as dimensions
from nlpft.samplers import _population as population
from nlpft.samplers._cooling import Move, Schedule, after, begin, estimated, metropolis
from nlpft.samplers.annealing import MARK, Config, neighbour, unknown
from nlpft.search.study import open_study, run

RNG = np.random.default_rng
QUIET = {"annealing": {"reheat_after": 0}, "hybrid": {"annealing": Config(reheat_after=0)}}  # never heated again
MIXED = {
    "batch": IntDistribution(8, 64, step=8),
    "dropout": FloatDistribution(0.0, 0.5, step=0.1),
    "lr": FloatDistribution(1e-5, 1e-2, log=True),
    "rank": IntDistribution(1, 64, log=True),
    "schedule": CategoricalDistribution(("linear", "cosine", "constant")),
}


@pytest.mark.parametrize("name", MIXED)
def test_values_stay_on_the_dimension_and_a_changed_one_is_another(name):
    dimension, rng = MIXED[name], RNG(0)
    for _ in range(300):
        value = dimensions.draw(dimension, rng)
        other = dimensions.changed(dimension, value, rng)
        assert dimension._contains(dimension.to_internal_repr(value))
        assert dimension._contains(dimension.to_internal_repr(other))
        assert other != value


def test_drawn_values_are_equally_likely():
    steps = Counter(dimensions.draw(IntDistribution(1, 4), rng) for rng in [RNG(0)] for _ in range(4000))
    assert set(steps) == {1, 2, 3, 4}
    assert all(900 < count < 1100 for count in steps.values())
    rates = [dimensions.draw(MIXED["lr"], rng) for rng in [RNG(0)] for _ in range(2000)]
    assert np.median(np.log10(rates)) == pytest.approx(-3.5, abs=0.1)


def test_selection_prefers_the_better_by_as_much_as_it_says():
    energies = np.array([3.0, 0.0, 1.0, 2.0])
    for select, pressure, wanted in (
        (population.tournament, 2, [1 / 16, 7 / 16, 5 / 16, 3 / 16]),
        (population.roulette, 1, [0, 1 / 2, 1 / 3, 1 / 6]),
        (population.rank, 2, [0, 1 / 2, 1 / 3, 1 / 6]),
    ):
        rng = RNG(0)
        counts = Counter(select(energies, pressure, rng) for _ in range(6000))
        assert [counts[i] / 6000 for i in range(4)] == pytest.approx(wanted, abs=0.02), select.__name__


def test_roulette_of_equals_is_a_lottery():
    rng = RNG(0)
    assert set(Counter(population.roulette(np.ones(3), 1, rng) for _ in range(100))) == {0, 1, 2}


def test_crossover_cuts_once_twice_or_anywhere():
    rng = RNG(0)
    changes = lambda found: np.abs(np.diff(found.astype(int))).sum()  # noqa: E731
    cuts = {name: [cross(12, rng) for _ in range(200)] for name, cross in population.CROSS.items()}
    assert {changes(found) for found in cuts["one_point"]} == {1}
    assert {changes(found) for found in cuts["two_point"]} <= {0, 1, 2}
    assert max(changes(found) for found in cuts["two_point"]) == 2
    assert np.mean(cuts["uniform"]) == pytest.approx(0.5, abs=0.05)
    assert max(changes(found) for found in cuts["uniform"]) > 4


def test_a_child_has_only_genes_of_its_parents():
    space = landscapes.bits(6)
    one, other = (dict.fromkeys(space, value) for value in (0, 1))
    child = population.crossed(space, one, other, np.array([1, 1, 0, 0, 0, 1], bool))
    assert list(child.values()) == [1, 1, 0, 0, 0, 1]


def test_mutation_flips_as_many_bits_as_its_rate_says():
    space, rng = landscapes.bits(20), RNG(0)
    zeros = dict.fromkeys(space, 0)
    flips = [sum(population.mutated(space, zeros, 0.1, rng).values()) for _ in range(1000)]
    assert np.mean(flips) == pytest.approx(2, abs=0.15)


def test_the_better_a_parent_the_less_its_child_is_mutated():
    energies = [0.0, 1.0, 2.0, 3.0]  # their mean is 1.5
    rates = [population.adaptive_rate(own, energies, 0.1, 0.4) for own in (0.0, 0.75, 1.5, 3.0)]
    assert rates == pytest.approx([0.1, 0.2, 0.4, 0.4])
    assert population.adaptive_rate(1.0, [1.0, 1.0], 0.1, 0.4) == 0.4


def test_neighbours_differ_in_one_to_so_many_values():
    space, rng = landscapes.bits(10), RNG(0)
    zeros = dict.fromkeys(space, 0)
    counts = Counter(sum(neighbour(space, zeros, 3, rng).values()) for _ in range(600))
    assert set(counts) == {1, 2, 3}
    assert all(150 < count < 250 for count in counts.values())


def trial(value: float | None, **reports: float):
    """A trial on one bit, completed with `value`, or pruned behind its reports by step (`at5`)."""
    state = TrialState.PRUNED if value is None else TrialState.COMPLETE
    steps = {int(name.removeprefix("at")): report for name, report in reports.items()}
    own = {"params": {"bit": 0}, "distributions": {"bit": CategoricalDistribution((0, 1))}}
    return create_trial(state=state, value=value, intermediate_values=steps, **own)


def test_pruned_candidates_stand_behind_completed_ones_by_rung_and_then_by_score():
    for direction, sign in (("minimize", 1), ("maximize", -1)):
        study = open_study(None, landscapes.bits(1), sampler("random", landscapes.bits(1), 2), direction=direction)
        added = [trial(None), trial(None, at5=sign * 0.1), trial(None, at5=sign * 0.3, at15=sign * 0.4),
                 trial(sign * 0.8), trial(sign * 0.9), trial(None, at5=sign * 0.05)]  # fmt: skip
        study.add_trials(added)
        found = dimensions.energies(study, study.trials)
        assert list(np.argsort(found)) == [3, 4, 2, 5, 1, 0]
        assert found == pytest.approx([1.0, 0.975, 0.925, 0.8, 0.9, 0.95])
        assert dimensions.best(study, study.trials).number == 3


def test_no_pruned_candidate_is_elite_before_a_completed_one():
    space = landscapes.bits(12)
    study = pruned("genetic", space, landscapes.overfitted, 60, 75)[1]
    whole = lambda trials: sum(one.state == TrialState.COMPLETE for one in trials)  # noqa: E731
    counts = []
    for generation in range(2, 5):
        older = study.sampler.get_parent_population(study, generation - 1)
        elite = study.sampler.select_parent(study, generation)[-2:]
        counts.append((whole(elite), min(2, whole(older)), len(older) - whole(older)))
    assert all(own == most for own, most, _ in counts)
    assert any(most and hopeless for _, most, hopeless in counts)


def test_annealing_stands_on_no_pruned_candidate_behind_its_walk():
    space = landscapes.bits(12)
    study = pruned("annealing", space, landscapes.overfitted, 60, 75)[1]
    state = study.sampler.state(study, space)
    whole = [one for one in study.trials if one.state == TrialState.COMPLETE]
    assert len(whole) < len(study.trials)
    assert state.point in [dict(sorted(one.params.items())) for one in whole]
    assert state.least == min(one.value for one in whole)


def test_metropolis_accepts_what_is_better_and_rises_by_their_probability():
    assert metropolis(-1, 0.1) == metropolis(0, 0.0) == 1
    assert metropolis(2, 4) == pytest.approx(math.exp(-0.5))
    assert metropolis(1, 0) == metropolis(math.inf, 5) == 0


def test_the_first_temperature_accepts_the_mean_rise_as_often_as_was_asked():
    temperature = estimated([1.0, 2.0, math.inf, 5.0], 0.8)
    assert metropolis(2.0, temperature) == pytest.approx(0.8)
    assert estimated([1.0, 1.0], 0.8) == 0


def temperatures(cooling: str, energies: list[float], **more) -> list[float]:
    schedule = Schedule(**{"cooling": cooling, "first": 2.0, "acceptance": 0.5, "probes": 0, "moves": 10, "end": 0.01,
                           "patience": 0, "reheat": 0.5, **more})  # fmt: skip
    state = begin(Move("start", 0.0, 0.0), schedule)
    found = [state.temperature]
    for energy in energies:
        state = after(state, Move("x", energy, 0.5), schedule)
        found.append(state.temperature)
    return found


def test_temperatures_fall_along_a_line_or_by_a_factor():
    flat = [1.0] * 10
    assert temperatures("linear", flat) == pytest.approx([2 - 0.2 * n for n in range(11)], abs=1e-9)
    assert temperatures("exponential", flat) == pytest.approx([2 * 0.01 ** (n / 10) for n in range(11)])


def test_adaptive_cooling_heats_where_too_little_is_accepted():
    never, always = (temperatures("adaptive", [sign * 100.0 * n for n in range(1, 41)], moves=40) for sign in (1, -1))
    assert never[-1] > 2
    assert always[-1] < 2


def test_a_chain_without_progress_is_heated_again():
    found = temperatures("exponential", [1.0] * 8, patience=4)
    assert found[4] == pytest.approx(1.0)  # half of the first one
    assert found[5] < found[4] < found[0]
    assert found[8] == pytest.approx(1.0)


def test_a_walk_estimates_the_temperature_and_then_the_chain_goes_back_to_its_best():
    schedule = Schedule("linear", None, 0.5, 2, 10, 0.01, 0, 0.5)
    state = begin(Move("start", 3.0, 0.0), schedule)
    for name, energy in (("good", 1.0), ("bad", 9.0)):
        assert state.temperature == math.inf
        state = after(state, Move(name, energy, 0.9), schedule)
    assert state.point == "good"
    assert state.temperature == pytest.approx((2 + 8) / 2 / math.log(2))


@pytest.mark.parametrize("name", ["genetic", "annealing", "hybrid", "random", "tpe"])
def test_a_search_that_is_cut_and_goes_on_proposes_what_it_would_have(name, tmp_path):
    space = landscapes.bits(12)

    def candidates(*cuts: int, path) -> list[dict]:
        for budget in cuts:
            study = open_study(path, space, sampler(name, space, 40), direction="maximize")
            run(study, space, lambda trial, point: landscapes.onemax(point), budget)
        return [trial.params for trial in study.trials]

    whole, cut = candidates(40, path=None), candidates(17, 29, 40, path=tmp_path / "study.log")
    assert whole == cut


@pytest.mark.parametrize("name", ["genetic", "annealing", "hybrid", "tpe", "random", "grid"])
def test_choices_integers_and_numbers_are_searched(name):
    def fitness(point: dict) -> float:
        lr = -abs(math.log10(point["lr"]) + 3.5)
        return lr - abs(point["batch"] - 32) / 8 - point["dropout"] + (point["schedule"] == "cosine")

    found = searched(name, MIXED, fitness, 60)
    assert found.best.value > -1.2
    assert found.scored == 60


def test_settings_that_could_not_search_are_refused():
    bad = {
        "genetic": [{"population": 1}, {"elite": 12}, {"pressure": 13.0}, {"selection": "rank", "pressure": 2.5},
                    {"mutation_rate": 1.5}, {"crossover_rate": -0.1}, {"mutation_high": 0.0}],
        "annealing": [{"temperature": 0.0}, {"acceptance": 1.0}, {"flips": 0}, {"end": 0.0}, {"probes": 0}, {"reheat": 2.0}],
        "hybrid": [{"share": 1.0}],
        "grid": [{"points": 1}],
        "tpe": [{"startup": 0}],
    }  # fmt: skip
    for name, all_settings in bad.items():
        for settings in all_settings:
            with pytest.raises(ConfigError, match=rf"search\.{next(reversed(settings))}"):
                sampler(name, MIXED, 50, **settings)


def test_a_grid_that_is_too_large_is_refused():
    with pytest.raises(ConfigError, match="the grid has"):
        sampler("grid", landscapes.bits(24), 50)


def test_what_a_search_needs_covers_its_parts():
    needs = {name: plugins.load("samplers", name) for name in plugins.names("samplers")}
    assert {name: module.least(module.Config()) for name, module in needs.items()} == {
        "annealing": 12, "genetic": 12, "grid": 1, "hybrid": 30, "random": 1, "tpe": 11,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["annealing", "hybrid"])
def test_annealing_spends_its_budget_on_new_candidates_and_is_not_cold_before(name):
    space = landscapes.bits(7)
    for seed in range(5):
        study = open_study(None, space, sampler(name, space, 60, seed, **QUIET[name]))
        found = run(study, space, lambda trial, point: -landscapes.onemax(point), 60)
        part = getattr(study.sampler, "then", study.sampler)
        state = part.state(study, space)
        assert found.scored == 60
        assert found.copies < 6
        assert state.step == sum(MARK in one.system_attrs and "copy_of" not in one.user_attrs for one in study.trials)
        assert state.temperature >= state.first * 0.009


def test_where_all_neighbours_are_known_those_further_off_are_neighbours():
    space, rng = landscapes.bits(4), RNG(0)
    zeros = dict.fromkeys(space, 0)
    near = {tuple(int(n == hit) for n in range(4)) for hit in range(4)} | {(0, 0, 0, 0)}
    assert sum(unknown(space, zeros, 1, near, rng).values()) == 2
    assert sum(unknown(space, zeros, 1, near - {(0, 1, 0, 0)}, rng).values()) == 1
