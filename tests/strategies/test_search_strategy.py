"""The search within the budget: all candidates have as much of it, and the best of them, the winner, what is left."""

import laboratories
import pytest
import torch

from nlpft.errors import ConfigError
from nlpft.strategies import _cells, _lab, search
from nlpft.tuning._parts import head_names

RANDOM = "search --search.name random --trials 4 --evaluations 1"


def test_the_winner_is_the_candidate_of_least_energy_and_is_trained_anew(made, monkeypatch):
    lab, test = made
    put, real = [], search.put
    monkeypatch.setattr(search, "put", lambda lab, point, seed: (put.append(dict(point)), real(lab, point, seed))[1])
    cell = laboratories.ran(lab, test, RANDOM)
    energies, points = cell.notes["energies"], cell.notes["candidates"]
    assert len(energies) == len(points) == 4
    assert put[:4] == points
    assert put[4:] == [points[energies.index(min(energies))]]
    assert cell.notes["mask"] == put[4]


def test_candidates_have_equal_shares_and_the_winner_the_rest(made, monkeypatch):
    lab, test = made
    taken, fit = [], _lab.fit

    def counted(*words, **more):
        before = lab.meter.optimizer_steps
        yield from fit(*words, **more)
        taken.append(lab.meter.optimizer_steps - before)

    monkeypatch.setattr(_lab, "fit", counted)
    cell = laboratories.ran(lab, test, RANDOM)
    assert taken == [2, 2, 2, 2, 9]
    assert cell.spent["forward_rows"] == 5 * 12
    assert cell.spent["steps"] == pytest.approx(17 + 5 * 0.5)


def test_only_what_is_not_kept_trains_and_the_head_always(made):
    lab, _ = made
    search.put(lab, {"keep.00": 1, "keep.01": 0, "keep.embeddings": 1}, 0)
    names = {name for name, weight in lab.model.named_parameters() if weight.requires_grad}
    assert head_names(lab.model) <= names
    assert all("layer.1." in name for name in names - head_names(lab.model))
    factors = search.put(lab, {"keep.00": 0, "keep.01": 0, "keep.embeddings": 0, "rate.00": 0.5}, 0)
    assert factors["bert.encoder.layer.0.output.dense.weight"] == 0.5
    assert factors["classifier.weight"] == 10


def test_cost_leads_to_candidates_that_train_less(made):
    cell = laboratories.ran(
        *made,
        "search --search.name grid --trials 4 --evaluations 0 --cost 1000 --space.no_embeddings",
    )
    assert cell.notes["mask"] == {"keep.00": 1, "keep.01": 1}
    assert min(cell.notes["energies"]) < 100 < 300 < max(cell.notes["energies"])


def test_annealing_tells_its_temperatures_and_random_search_none(made):
    cold = laboratories.ran(*made, "search --search.name annealing --search.temperature 1 --trials 6 --evaluations 0")
    known = [value for value in cold.notes["temperatures"] if value is not None]
    assert len(cold.notes["temperatures"]) == len(cold.notes["energies"])
    assert known == sorted(known, reverse=True)
    assert 0 < known[-1] < known[0] <= 1
    assert "temperatures" not in laboratories.ran(*made, RANDOM).notes


def test_the_budget_of_another_strategy_is_not_touched(made):
    lab, test = made
    weights = {name: value.clone() for name, value in lab.weights.values.items()}
    laboratories.ran(lab, test, RANDOM)
    assert all(torch.equal(value, weights[name]) for name, value in lab.weights.values.items())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--search.name genetic --trials 5", "search.name genetic needs at least 12"),
        ("--search.name random --trials 30", r"budget\.steps 20: search needs at least 90 .*30 trials"),
        ("--search.name random --trials 2 --space.keep none --space.no_embeddings", "empty"),
        ("--search.name random --space.least_blocks 1", "searches keep and rates"),
        ("--share 0", "share 0"),
    ],
)
def test_what_cannot_search_is_refused_before_it_trains(made, words, message):
    (plan, _) = _cells.plans([f"search {words}", "finetune"])
    with pytest.raises(ConfigError, match=message):
        plan.module.check(plan.settings, made[0])
