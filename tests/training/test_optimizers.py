"""Optimisers by name: each trains, resumes exactly, and says whether its kernels can skip a step."""

import copy
from importlib.util import find_spec

import pytest
import steps
import tiny
import torch

from nlpft.errors import ConfigError
from nlpft.training import optimizers
from nlpft.training.optim import OptimConfig, build_optimizer
from nlpft.training.optimizers import OPTIMIZERS, skips_on_device

RATES = {"sgd": 0.3, "momentum": 0.1, "adagrad": 0.05}
NAMES = [
    pytest.param(name, marks=pytest.mark.skipif(not find_spec("bitsandbytes"), reason="bitsandbytes is not installed"))
    if name == "adamw_8bit"
    else name
    for name in OPTIMIZERS
]


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_falls(name):
    model = tiny.make_model()
    losses = steps.train(model, build_optimizer(model, OptimConfig(name=name)), 8, RATES.get(name, 0.01))
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize("name", NAMES)
def test_a_state_that_is_loaded_goes_on_as_if_it_had_never_stopped(name):
    model = tiny.make_model()
    optimizer = build_optimizer(model, OptimConfig(name=name))
    steps.train(model, optimizer, 3)
    other = copy.deepcopy(model)
    resumed = build_optimizer(other, OptimConfig(name=name))
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps.train(model, optimizer, 3)
    steps.train(other, resumed, 3)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_every_name_of_the_settings_is_an_optimizer():
    assert OptimConfig.__annotations__["name"].__args__ == tuple(OPTIMIZERS)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_a_fused_optimizer_skips_the_step_that_it_is_told_is_bad(name):
    model = tiny.make_model()
    optimizer = build_optimizer(model, OptimConfig(name=name))
    assert skips_on_device(optimizer)
    before = steps.copied(model)
    optimizer.found_inf, optimizer.grad_scale = torch.tensor(1.0), None
    steps.train(model, optimizer, 1)
    assert steps.moved(model, before) == set()
    optimizer.found_inf = torch.tensor(0.0)
    steps.train(model, optimizer, 1)
    assert steps.moved(model, before) == set(before)


@pytest.mark.parametrize("name", ["rmsprop", "adagrad", "muon"])
def test_other_optimizers_leave_that_to_the_host(name):
    assert not skips_on_device(build_optimizer(tiny.make_model(), OptimConfig(name=name)))


def test_muon_orthogonalises_matrices_of_blocks_and_leaves_the_rest_to_adamw():
    model = tiny.make_model()
    optimizer = build_optimizer(model, OptimConfig(name="muon"))
    twin = copy.deepcopy(model)
    steps.train(model, optimizer, 1)
    steps.train(twin, build_optimizer(twin, OptimConfig(name="adamw")), 1)
    same = {name for name, p in model.named_parameters() if torch.allclose(p, twin.get_parameter(name), atol=1e-7)}
    assert same == {name for name, p in model.named_parameters() if p.ndim < 2 or "embed" in name}
    start, muon, adamw = (m.model.layers[0].mlp.up_proj.weight for m in (tiny.make_model(), model, twin))
    ratios = [s[0] / s[9] for s in (torch.linalg.svdvals(w - start) for w in (muon, adamw))]
    assert ratios[0] < 1.6 < 2.5 < ratios[1]  # of the 16 directions that 16 targets give, ten are made about as long


def test_muon_without_other_weights_and_without_its_own_trains_too():
    for hidden in (True, False):
        model = tiny.make_model()
        for name, p in model.named_parameters():
            p.requires_grad_(("layers" in name and p.ndim == 2) == hidden)
        optimizer = build_optimizer(model, OptimConfig(name="muon"))
        assert not skips_on_device(optimizer)  # its AdamW is fused, but is not what is told
        losses = steps.train(model, optimizer, 4)
        assert losses[-1] < losses[0]


def test_without_bitsandbytes_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(optimizers, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'pip install "nlpft\[qlora\]"'):
        build_optimizer(tiny.make_model(), OptimConfig(name="adamw_8bit"))
