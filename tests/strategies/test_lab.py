"""Every strategy begins alike: pretrained weights, a head drawn by the seed, full steps, and a budget of its own."""

import itertools

import laboratories
import pytest
import tiny_heads
import torch

from nlpft import plugins
from nlpft.errors import ConfigError
from nlpft.models.heads import draw_head
from nlpft.strategies import _cells, _lab
from nlpft.strategies.finetune import lowest_first


def weights(lab) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in lab.model.state_dict().items()}


def same(one: dict, other: dict) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


BLOCK = [f"bert.encoder.layer.{n}.{part}.dense.weight" for n in range(2) for part in ("intermediate", "output")]
ALL = {
    "finetune": "finetune",
    "top_down": "finetune --train top_down",
    "bottom_up": "finetune --train bottom_up",
    "chain_thaw": "finetune --train chain_thaw",
    "head": "finetune --train head",
    "sgd": "finetune --optimizer sgd --lr 0.1 --evaluations 0",
    "probe_then_finetune": "probe_then_finetune",
    "genetic": "search --search.name genetic --search.population 3 --trials 6 --evaluations 1",
    "annealing": "search --search.name annealing --search.probes 2 --trials 6 --evaluations 1 --space.rates 2",
    "random": "search --search.name random --trials 6 --evaluations 1 --space.keep parts",
    "fgm": "adversarial --evaluations 1",
    "pgd": "adversarial --attack pgd --evaluations 1",
    "dann": "dann --evaluations 1",
    "reptile": "meta --evaluations 1",
    "fomaml": "meta --algorithm fomaml --inner_steps 2",
    "mean": "ensemble",
    "vote": "ensemble --combine vote --count 4",
    "weighted": "ensemble --combine weighted --members snapshots",
    "stacking": "ensemble --combine stacking",
    "soup": "ensemble --combine soup",
    "greedy_soup": "ensemble --combine greedy_soup --members snapshots",
}


@pytest.mark.parametrize("text", ALL.values(), ids=list(ALL))
def test_a_strategy_stays_within_the_budget_and_spends_most_of_it(made, text):
    cell = laboratories.ran(*made, text)
    assert 20 - 4 < cell.spent["steps"] <= 20 + 1e-6  # a step of pgd costs four
    assert cell.spent["optimizer_steps"] > 0


@pytest.mark.parametrize("text", ALL.values(), ids=list(ALL))
def test_a_cell_does_not_depend_on_what_ran_before(made, text):
    first = laboratories.ran(*made, text, seed=3)
    laboratories.ran(*made, "finetune --lr 0.01", seed=4)
    laboratories.ran(*made, "finetune --train head", seed=4)
    again = laboratories.ran(*made, text, seed=3)
    timeless = [cell._replace(spent={**cell.spent, "seconds": 0}) for cell in (first, again)]
    assert timeless[0] == timeless[1]
    assert laboratories.ran(*made, text, seed=5).loss != first.loss


def test_every_strategy_is_tested_here():
    assert {text.split()[0] for text in ALL.values()} == set(plugins.names("strategies"))


def test_beginning_restores_the_weights_and_draws_the_head(made):
    lab, _ = made
    _lab.begin(lab, 1)
    first = weights(lab)
    for _ in itertools.islice(_lab.fit(lab, 0), 3):
        pass
    assert not same(first, weights(lab))
    _lab.begin(lab, 1)
    assert same(first, weights(lab))
    _lab.begin(lab, 2)
    changed = {name for name, value in weights(lab).items() if not torch.equal(value, first[name])}
    assert "classifier.weight" in changed <= set(lab.model.head_parameters)


def test_a_head_is_drawn_in_the_same_order_in_every_process(made, monkeypatch):
    """A set of names would order pooler and classifier by hashes that differ from process to process."""
    lab, _ = made
    names, drawn = {module: name for name, module in lab.model.named_modules()}, []
    monkeypatch.setattr(lab.model, "_init_weights", lambda module: drawn.append(names[module]))
    lab.model.head_parameters, before = frozenset([*lab.model.head_parameters, *BLOCK]), lab.model.head_parameters
    try:
        draw_head(lab.model, lab.cfg.head)
    finally:
        lab.model.head_parameters = before
    assert drawn == sorted(drawn)
    assert len(drawn) >= 4


def test_steps_are_full_and_see_every_row_once_an_epoch(made):
    lab, _ = made
    drawn = list(itertools.islice(_lab.draws(lab.train, lab.cfg.data, 0, size=15), 8))
    assert {len(rows) for rows in drawn} == {15}
    seen = [row for rows in drawn for row in rows.tolist()]
    assert sorted(seen) == sorted([*range(40)] * 3)
    assert seen[:40] != seen[40:80]


def test_a_predictor_keeps_the_weights_it_was_made_with(made):
    lab, test = made
    _lab.begin(lab, 0)
    before = _lab.outputs(lab, test).logits
    predict = _lab.predictor(lab)
    for _ in itertools.islice(_lab.fit(lab, 0), 3):
        pass
    assert not (_lab.outputs(lab, test).logits == before).all()
    assert (predict(test) == before).all()


def test_the_best_weights_on_eval_are_kept(made, monkeypatch):
    lab, _ = made
    _lab.begin(lab, 0)
    found, kept = iter([(-0.5, 1.0), (-0.9, 1.0), (-0.9, 2.0)]), []
    monkeypatch.setattr(_lab, "judged", lambda lab: (kept.append(weights(lab)), next(found))[1])
    _lab.fit_best(lab, 0, 3)
    assert len(kept) == 3
    assert same(weights(lab), kept[1])
    assert not same(kept[1], kept[2])


def test_evaluations_are_paid_for_and_on_the_curve(made):
    cell = laboratories.ran(*made, "finetune --evaluations 4")
    assert cell.spent["forward_rows"] == 4 * 12
    assert len(cell.notes["curve"]) == 4
    assert [point[0] / 20 for point in cell.notes["curve"]] == pytest.approx([0.25, 0.5, 0.75, 1], abs=0.07)


def test_stages_of_gradual_training():
    """Of two blocks: embeddings 0, blocks 1 and 2, the head 3."""
    assert lowest_first("top_down", 3) == [{2, 3}, {1, 2, 3}, {0, 1, 2, 3}]
    assert lowest_first("bottom_up", 3) == [{0, 3}, {0, 1, 3}, {0, 1, 2, 3}]
    assert lowest_first("chain_thaw", 3) == [{3}, {0}, {1}, {2}, {0, 1, 2, 3}]


@pytest.mark.parametrize(
    ("train", "first"), [("head", "head"), ("top_down", "layer.1"), ("bottom_up", "embeddings"), ("chain_thaw", "head")]
)
def test_what_trains_first(made, train, first, monkeypatch):
    """After the first step only these, and the head, have moved."""
    lab, _ = made
    moved: set[str] = set()
    _lab.begin(lab, 0)
    before, fit = weights(lab), _lab.fit

    def one(*words, **more):
        for report in fit(*words, **more):
            if report.step == 1:
                moved.update(n for n, value in weights(lab).items() if not torch.equal(value, before[n]))
            yield report

    monkeypatch.setattr(_lab, "fit", one)
    (plan, _) = _cells.plans([f"finetune --train {train} --evaluations 0 --optimizer sgd --lr 0.1", "x: finetune"])
    plan.module.train(plan.settings, lab, 0)
    inside = {name for name in moved if name not in lab.model.head_parameters}
    assert {first in name for name in inside} == (set() if first == "head" else {True})
    assert "classifier.weight" in moved


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("finetune --evaluations 40", r"budget\.steps 20: finetune --train all needs at least"),
        ("finetune --train chain_thaw --evaluations 32", "5 stages"),
        ("finetune --evaluations -1", "0 or more"),
        ("finetune --lr -1", "above 0"),
        ("probe_then_finetune --share 1", "above 0 and below 1"),
        ("probe_then_finetune --share 0.04", "needs at least 25"),
        ("probe_then_finetune --probe_factor 0", "a factor"),
    ],
)
def test_what_cannot_work_is_refused_before_it_trains(made, text, message):
    with pytest.raises(ConfigError, match=message):
        laboratories.ran(*made, text)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["finetune"], "at least two"),
        (["finetune", "finetune --lr 1"], "a label of its own"),
        (["finetune", "finetun"], "did you mean 'finetune'"),
        (["finetune", "a: finetune --lrr 1"], "--lrr"),
        (["finetune", "a:"], "strategies 'a:'"),
    ],
)
def test_a_list_of_strategies_says_what_is_wrong(texts, message):
    with pytest.raises(ConfigError, match=message):
        _cells.plans(texts)


def test_settings_and_data_that_make_no_laboratory_are_refused(tmp_path, bert, labels):
    tags = tiny_heads.tagged(tmp_path, bert)
    for more, message in [
        ({"data.eval": "None"}, "give both"),
        ({"data.mixup": 0.2}, "rows as they are"),
        ({"measure": "f1"}, "there are accuracy"),
        ({"budget.steps": 0}, "set one of them"),
        ({"sources": [tags / "train"]}, "are for tagging"),
        ({"unlabelled": tags / "train"}, "one task in two domains"),
    ]:
        with pytest.raises(ConfigError, match=message):
            laboratories.laboratory(bert, labels, **more)
