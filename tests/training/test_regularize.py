"""Penalties are the gradients of what they say; averages are their closed form; settings that mean nothing are refused."""

import copy

import pytest
import steps
import tiny
import torch
from torch import nn

from nlpft.errors import ConfigError
from nlpft.training.average import averaged, keep_average
from nlpft.training.optim import OptimConfig, build_optimizer
from nlpft.training.penalty import add_penalties
from nlpft.training.regularize import RegularizeConfig, add_noise, attach


def one_step(gradient: float, **penalties: float) -> list[float]:
    """A matrix [[2, -3]] that began as [[1, -1]] after a step of SGD at rate 1."""
    weight = nn.Parameter(torch.tensor([[1.0, -1.0]]))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    add_penalties(optimizer, **penalties)
    weight.data = torch.tensor([[2.0, -3.0]])
    weight.grad = torch.full_like(weight, gradient)
    optimizer.step()
    return weight.detach()[0].tolist()


def test_l1_moves_by_its_factor_towards_zero():
    assert one_step(0.0, l1=0.5) == [1.5, -2.5]


def test_l2_moves_by_a_share_towards_zero():
    assert one_step(0.0, l2=0.5) == [1.0, -1.5]


def test_l2_sp_moves_by_a_share_towards_the_start():
    assert one_step(0.0, l2_sp=0.5) == [1.5, -2.0]


def test_penalties_come_on_top_of_the_gradient_and_of_each_other():
    assert one_step(1.0, l1=0.25, l2=0.25, l2_sp=0.25) == [2 - 1 - 0.25 - 0.5 - 0.25, -3 - 1 + 0.25 + 0.75 + 0.5]


def test_a_weight_without_gradient_is_not_penalised():
    weight = nn.Parameter(torch.ones(1, 2))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    add_penalties(optimizer, l2=0.5)
    optimizer.step()
    assert weight.tolist() == [[1.0, 1.0]]


def test_l2_sp_keeps_training_near_the_pretrained_weights():
    def distance(l2_sp):
        model = tiny.make_model()
        before = steps.copied(model)
        optimizer = build_optimizer(model, OptimConfig(name="sgd"))
        attach(optimizer, RegularizeConfig(l2_sp=l2_sp))
        steps.train(model, optimizer, 20, 0.1)
        return sum((p - before[name]).square().sum().item() for name, p in model.named_parameters())

    assert distance(1.0) < 0.5 * distance(0.0)


def averages_and_weights(optimizer, model, count):
    history = []
    for _ in range(count):
        steps.train(model, optimizer, 1)
        history.append(model.model.norm.weight.detach().clone())
    return history


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_an_average_is_its_closed_form(name):
    model = tiny.make_model()
    optimizer = build_optimizer(model, OptimConfig(name=name))
    keep_average(optimizer, 0.75)
    history = averages_and_weights(optimizer, model, 5)
    expected = 0.75**4 * history[0] + sum(0.25 * 0.75 ** (4 - n) * history[n] for n in range(1, 5))
    with averaged(optimizer, model):
        torch.testing.assert_close(model.model.norm.weight.detach(), expected)
    assert torch.equal(model.model.norm.weight, history[-1])


def test_an_average_is_saved_and_loaded_with_the_optimizer():
    model = tiny.make_model()
    optimizer = build_optimizer(model, OptimConfig())
    attach(optimizer, RegularizeConfig(average=0.5))
    steps.train(model, optimizer, 3)
    other = copy.deepcopy(model)
    resumed = build_optimizer(other, OptimConfig())
    attach(resumed, RegularizeConfig(average=0.5))
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one, its in ((model, optimizer), (other, resumed)):
        steps.train(one, its, 2)
    with averaged(optimizer, model), averaged(resumed, other):
        for one, two in zip(model.parameters(), other.parameters(), strict=True):
            assert torch.equal(one, two)


def test_a_step_that_the_device_skips_leaves_the_average_alone():
    model = tiny.make_model()
    optimizer = build_optimizer(model, OptimConfig())
    keep_average(optimizer, 0.5)
    averages_and_weights(optimizer, model, 2)
    with averaged(optimizer, model):
        before = steps.copied(model)
    optimizer.found_inf, optimizer.grad_scale = torch.tensor(1.0), None
    steps.train(model, optimizer, 1)
    with averaged(optimizer, model):
        assert steps.moved(model, before) == set()


def test_an_error_while_averages_are_in_place_brings_the_weights_back():
    model = tiny.make_model()
    optimizer = build_optimizer(model, OptimConfig())
    keep_average(optimizer, 0.5)
    steps.train(model, optimizer, 2)
    before = steps.copied(model)
    inside = []

    def fails():
        with averaged(optimizer, model):
            inside.append(steps.moved(model, before))
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert inside[0]
    assert steps.moved(model, before) == set()


@pytest.mark.parametrize("average", [0.0, 0.5])
def test_without_steps_or_averages_nothing_is_exchanged(average):
    model = tiny.make_model()
    optimizer = build_optimizer(model, OptimConfig())
    attach(optimizer, RegularizeConfig(average=average))
    before = steps.copied(model)
    with averaged(optimizer, model):
        assert steps.moved(model, before) == set()


@pytest.mark.parametrize(
    "config",
    [
        RegularizeConfig(neftune=-1),
        RegularizeConfig(l1=-1),
        RegularizeConfig(l2=float("nan")),
        RegularizeConfig(l2_sp=float("inf")),
        RegularizeConfig(dropout=1.0),
        RegularizeConfig(average=1.0),
    ],
)
def test_settings_that_mean_nothing_are_refused(config):
    with pytest.raises(ConfigError, match=r"regularize\."):
        add_noise(tiny.make_model(), config)
