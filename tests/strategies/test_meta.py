"""Meta-learning: updates equal to their formulas, tasks with output layers of their own, and the target behind them."""

import itertools
from dataclasses import replace

import laboratories
import pytest
import torch

from nlpft.errors import ConfigError
from nlpft.strategies import _heads, _lab, meta
from nlpft.strategies._lab import Source
from nlpft.strategies.meta import Config
from nlpft.types import Task

THREE = Task("single_label_classification", ("a", "b", "c"))
CONFIG = Config(inner_steps=2, inner_optimizer="sgd", inner_lr=0.05, outer_rate=0.3)


@pytest.fixture
def lab(made):
    _lab.begin(made[0], 0)
    return made[0]


def copied(weights) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in weights.items()}


def turn(lab, config: Config, inner_only: bool = False) -> tuple[dict, dict]:
    """The shared weights before and after one task's turn."""
    _lab.begin(lab, 0)
    one = meta.learner(lab, lab.sources[0], 0)
    shared = meta.shared_weights(lab.model)
    before = copied(shared)
    if inner_only:
        meta.inner(config, lab, one)
    else:
        move = meta.reptile if config.algorithm == "reptile" else meta.fomaml
        move(config, lab, one, shared, before, meta.outer_optimizer(config, lab))
    return before, copied(shared)


def test_reptile_goes_the_set_part_of_the_way_of_the_inner_steps(lab):
    before, inner = turn(lab, CONFIG, inner_only=True)
    again, after = turn(lab, CONFIG)
    assert all(torch.equal(before[name], again[name]) for name in before)
    for name in before:
        assert torch.allclose(after[name], before[name] + 0.3 * (inner[name] - before[name]), atol=1e-7)
    assert max((inner[name] - before[name]).abs().max().item() for name in before) > 1e-3


def test_reptile_all_the_way_is_plain_training(lab):
    _, inner = turn(lab, CONFIG, inner_only=True)
    _, after = turn(lab, replace(CONFIG, outer_rate=1.0))
    assert all(torch.allclose(after[name], inner[name], atol=1e-7) for name in inner)


def test_fomaml_moves_the_first_weights_by_the_gradient_at_the_last(lab):
    """Adam's first step has the length of the rate, against the sign of the gradient."""
    config = replace(CONFIG, algorithm="fomaml", outer_lr=0.01)
    plain = replace(lab.cfg.optim, weight_decay=0.0, max_grad_norm=0.0)
    lab = replace(lab, cfg=replace(lab.cfg, optim=plain))
    _lab.begin(lab, 0)
    one = meta.learner(lab, lab.sources[0], 0)
    meta.inner(config, lab, one)
    with _heads.instead(lab.model, one.layer, one.source.task):
        meta.gradient_of(lab, one, next(one.batches))
    gradient = {name: weight.grad.clone() for name, weight in meta.shared_weights(lab.model).items()}
    before, after = turn(lab, config)
    checked = 0
    for name in before:
        clear = gradient[name].abs() > 1e-4 * gradient[name].abs().max().clamp(min=1e-3)
        checked += int(clear.sum())
        steps = (after[name] - before[name])[clear]
        assert torch.allclose(steps, -0.01 * gradient[name][clear].sign(), atol=2e-4)
    assert checked > 1000
    assert lab.meter.steps == pytest.approx(meta.round_cost(config))
    assert lab.meter.optimizer_steps == 3


def test_the_targets_output_layer_stays_as_it_was_drawn(lab):
    layer = _heads.output_layer(lab.model)
    before = layer.weight.detach().clone()
    turn(lab, CONFIG)
    turn(lab, replace(CONFIG, algorithm="fomaml"))
    assert _heads.output_layer(lab.model) is layer
    assert torch.equal(layer.weight, before)


def test_a_source_with_other_labels_has_an_output_layer_of_its_own(lab):
    other = replace(lab, sources=(Source(THREE, lab.sources[0].rows), lab.sources[0]))
    one = meta.learner(other, other.sources[0], 0)
    assert one.layer.out_features == 3
    first = one.layer.weight.detach().clone()
    meta.inner(CONFIG, other, one)
    assert not torch.equal(one.layer.weight, first)
    assert (lab.model.task, _heads.output_layer(lab.model).out_features) == (lab.task, 2)


def test_tasks_take_turns_and_the_target_comes_last(made, monkeypatch):
    lab, test = made
    seen, inner, target = [], meta.inner, _lab.fit_best
    both = replace(lab, sources=(lab.sources[0], Source(THREE, lab.sources[0].rows)))
    monkeypatch.setattr(meta, "inner", lambda c, lab, one: (seen.append(one.source.task), inner(c, lab, one))[1])
    monkeypatch.setattr(_lab, "fit_best", lambda *words: (seen.append("target"), target(*words))[1])
    cell = laboratories.ran(both, test, "meta --inner_steps 3 --share 0.65 --evaluations 0")
    assert seen == [*itertools.islice(itertools.cycle([lab.task, THREE]), 4), "target"]
    assert cell.notes["rounds"] == 4
    assert cell.spent["optimizer_steps"] == cell.spent["steps"] == 20


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--share 1", "share 1"),
        ("--outer_rate 0", "outer_rate 0"),
        ("--inner_steps 0", "at least 1"),
        ("--inner_steps 20", r"budget\.steps 20: meta needs at least 33\.4"),
    ],
)
def test_what_cannot_learn_is_refused(made, words, message):
    with pytest.raises(ConfigError, match=message):
        laboratories.ran(*made, f"meta {words}")


def test_without_source_tasks_it_is_refused(made):
    lab, test = made
    with pytest.raises(ConfigError, match="sources is not set"):
        laboratories.ran(replace(lab, sources=()), test, "meta")
