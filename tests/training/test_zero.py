"""What does not go through ZeRO is refused, with what to do; nothing of DeepSpeed is needed to say so."""

import dataclasses

import pytest
import tiny
import torch

from nlpft.errors import ConfigError
from nlpft.training import zero
from nlpft.training.optim import OptimConfig, build_optimizer
from nlpft.training.regularize import RegularizeConfig


def settings(**zero_optimization):
    return {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "none"}, **zero_optimization}}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (settings(stage=0), "zero_stage 0: 1, 2 or 3"),
        (settings(offload_optimizer={"device": "cpu"}), "offload_optimizer: nlpft keeps all on the GPU"),
        (settings(offload_param={"device": "nvme"}), "offload_param: nlpft keeps all on the GPU"),
        ({**settings(), "optimizer": {"type": "Adam"}}, "names optimizer: take it out"),
        ({**settings(), "fp16": {"enabled": True}}, "mixed_precision fp16: set bf16, or no"),
        ({**settings(), "scheduler": {"type": "WarmupLR"}}, "names scheduler: take it out"),
    ],
)
def test_settings_of_deepspeed_that_nlpft_has_itself_are_refused(given, told):
    model = tiny.make_model()
    with pytest.raises(ConfigError, match=told):
        zero.check(given, model, build_optimizer(model, OptimConfig()))


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw", "rmsprop"])
def test_optimisers_that_take_numbers_one_by_one_go_through(name):
    model = tiny.make_model()
    zero.check(settings(), model, build_optimizer(model, OptimConfig(name=name)))


@pytest.mark.parametrize(("name", "told"), [("muon", "MuonWithAdamW"), ("adagrad", "Adagrad")])
def test_optimisers_that_need_whole_weights_are_refused(name, told):
    model = tiny.make_model()
    with pytest.raises(
        ConfigError, match=f"optim.name: {told} .* take adamw, or launch with recipes/accelerate/fsdp2.yaml"
    ):
        zero.check(settings(), model, build_optimizer(model, OptimConfig(name=name)))


def test_weights_in_4_bits_are_not_cut():
    model = tiny.make_model()
    optimizer = build_optimizer(model, OptimConfig())
    model.model.layers[0].mlp.up_proj.weight.quant_state = torch.zeros(())
    zero.check(settings(), model, optimizer)
    with pytest.raises(ConfigError, match="zero_stage 3 cannot cut weights in 4 bits; take zero_stage 2"):
        zero.check(settings(stage=3), model, optimizer)


@pytest.mark.parametrize("name", ["l1", "l2", "l2_sp", "average"])
def test_regularisers_that_look_at_weights_are_refused(name):
    with pytest.raises(ConfigError, match=f"regularize.{name} asks for whole weights"):
        zero.check_method(False, dataclasses.replace(RegularizeConfig(), **{name: 0.1}))


def test_holding_gradients_back_is_refused_and_all_else_is_not():
    with pytest.raises(ConfigError, match=r"tuning\.name: it holds gradients back"):
        zero.check_method(True, RegularizeConfig())
    zero.check_method(False, RegularizeConfig(neftune=5.0, dropout=0.1))
