"""Useful operations on a token, against counts by hand; peaks of devices by their names."""

import copy

import numpy as np
import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM, GPT2Config, MistralConfig, MixtralConfig

from nlpft.models.compute import ComputeConfig, prepare
from nlpft.training import flops
from nlpft.tuning import freeze, full, head_only, lora

# tiny's Llama: width 32, 64 inside, 4 heads of 8, 2 of keys, 3 blocks, 400 entries in a head that is tied to the embeddings
BLOCK = 32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 64
HEAD = 32 * 400
ROWS = np.array([10, 30])
ATTENTION = 32 * (100 + 900) / 40  # of a block
ADAPTER = 4 * (32 + 32)  # of rank 4 on a query projection
SMALL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 40,
}


def count(model):
    return flops.per_token(model, ROWS)


def untied():
    model = tiny.make_model()
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    return model


def test_all_weights_take_six_operations_each():
    model = full.apply(tiny.make_model(), full.Config())
    assert count(model) == 6 * (3 * (BLOCK + ATTENTION) + HEAD)


def test_frozen_weights_take_four_and_adapters_six():
    model = lora.apply(tiny.make_model(), lora.Config(rank=4, targets=("q_proj",)))
    assert count(model) == 4 * (3 * BLOCK + HEAD) + 6 * 3 * (ATTENTION + ADAPTER)


def test_below_the_first_weight_that_trains_nothing_goes_back():
    model = freeze.apply(untied(), freeze.Config(train_last=1))
    head = 6 if model.lm_head.weight.requires_grad else 4
    assert count(model) == 2 * 2 * (BLOCK + ATTENTION) + 6 * (BLOCK + ATTENTION) + head * HEAD
    model = head_only.apply(untied(), head_only.Config())
    assert count(model) == 2 * 3 * (BLOCK + ATTENTION) + 6 * HEAD


def test_input_embeddings_take_nothing():
    assert count(tiny.make_model()) == count(untied())
    gpt = AutoModelForCausalLM.from_config(GPT2Config(vocab_size=40, n_positions=64, n_embd=16, n_layer=2, n_head=2))
    assert count(gpt) == 6 * (2 * (16 * 48 + 16 * 16 + 2 * 16 * 64 + 16 * 25) + 16 * 40)


@pytest.mark.parametrize("float8", [False, True])
def test_how_a_model_is_computed_changes_nothing(float8, monkeypatch):
    monkeypatch.setattr("nlpft.models.float8.check", lambda device: None)
    model = lora.apply(tiny.make_model(), lora.Config(rank=4))
    settings = ComputeConfig(compile=False, float8=float8)
    prepared = prepare(copy.deepcopy(model), settings, torch.device("cpu"), torch.float32)
    assert any("weight_across" in name for name, _ in prepared.named_parameters()) == float8
    assert count(prepared) == count(model)


def test_a_token_takes_only_the_experts_that_see_it():
    experts = {"num_local_experts": 8, "num_experts_per_tok": 2}
    model = AutoModelForCausalLM.from_config(MixtralConfig(**SMALL, num_hidden_layers=1, **experts))
    assert count(model) == 6 * (4 * 16 * 16 + 16 * 25 + 2 * (3 * 16 * 32) + 16 * 8 + 16 * 40)


def test_a_window_limits_what_attention_sees():
    assert flops.mean_context(ROWS) == 25
    assert flops.mean_context(ROWS, 20) == (100 + 900 - 100) / 40
    configs = (MistralConfig(**SMALL, num_hidden_layers=2, sliding_window=window) for window in (None, 20))
    wide, narrow = map(AutoModelForCausalLM.from_config, configs)
    assert count(wide) - count(narrow) == 6 * 2 * 16 * (25 - 22.5)


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA A10", 125),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA B200", 2250),
    ],
)
def test_a_device_has_the_peak_of_its_datasheet(name, tflops):
    assert flops.peak_of(name) == tflops * 1e12


@pytest.mark.parametrize(
    "name", ["NVIDIA A10G", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "Tesla T4"]
)
def test_a_part_of_a_device_or_an_unknown_one_has_none(name):
    assert flops.peak_of(name) is None


def test_a_cpu_has_none():
    assert flops.peak(torch.device("cpu")) is None
