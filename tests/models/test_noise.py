"""Noise in training: as large as the paper says for each row of a pack, and only while a model trains."""

import math

import pytest
import steps
import tiny
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from nlpft.errors import ConfigError
from nlpft.models.forward import check_isolation, forward, has_dropout, loss
from nlpft.models.noise import add_neftune, noise_bound, set_dropout
from nlpft.plugins import load


def test_each_row_of_a_pack_has_noise_by_its_own_length():
    places = torch.tensor([[0, 1, 2, 3, 0, 0, 1]])
    bounds = noise_bound(places, 16, 5.0)
    expected = [5 / math.sqrt(n * 16) for n in (4, 4, 4, 4, 1, 2, 2)]
    assert bounds[0].tolist() == pytest.approx(expected)


def embedded(model, batch):
    seen = []
    hook = model.model.layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    forward(model, batch, batch["positions"])
    hook.remove()
    return seen[0]


def test_neftune_fills_its_bound_in_training_and_is_silent_in_evaluation():
    model, batch = tiny.make_model(), steps.packed()
    plain = embedded(model.eval(), batch)
    add_neftune(model, 5.0)
    assert torch.equal(embedded(model.eval(), batch), plain)
    noise = (embedded(model.train(), batch) - plain).abs().amax(-1)
    bounds = noise_bound(batch["position_ids"], 32, 5.0)
    assert (noise <= bounds * 1.001).all()
    assert (noise > bounds * 0.7).all()


def test_noise_reaches_a_model_that_an_adapter_wraps():
    model, batch = tiny.make_model(), steps.packed()
    add_neftune(model, 5.0)
    lora = load("tuning", "lora")
    model = lora.apply(model, lora.Config(rank=4)).train()
    assert loss(model, batch).item() != loss(model, batch).item()
    model.eval()
    assert loss(model, batch).item() == loss(model, batch).item()


def test_a_model_with_noise_is_known_to_draw_random_numbers():
    model = tiny.make_model()
    assert not has_dropout(model)
    add_neftune(model, 5.0)
    assert has_dropout(model)
    batch = {**steps.packed(), "cu_seqlens": torch.tensor([0, 8, 14, 19])}
    check_isolation(model.train(), batch)  # would find the rows to leak, if noise were drawn


def test_dropout_is_set_wherever_the_model_has_it():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_positions=16, n_embd=16, n_layer=2, n_head=2))
    set_dropout(model, 0.0)
    assert not has_dropout(model)
    set_dropout(model, 0.3)
    assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.3}


def test_llamas_dropout_in_attention_acts_in_training():
    model, batch = tiny.make_model(), steps.packed()
    set_dropout(model, 0.5)
    assert has_dropout(model)
    assert loss(model.train(), batch).item() != loss(model, batch).item()
    assert loss(model.eval(), batch).item() == loss(model, batch).item()


def test_a_model_without_dropout_says_what_to_take_in_place():
    with pytest.raises(ConfigError, match=r"neftune"):
        set_dropout(torch.nn.Module(), 0.1)
