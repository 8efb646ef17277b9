"""What every tuning method promises: the loss falls, only the promised weights move, and what is saved is what was trained."""

import peft
import pytest
import steps
import tiny
import torch
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from nlpft import plugins
from nlpft.models.forward import forward
from nlpft.models.load import load_model, load_tokenizer, save_model
from nlpft.training import method
from nlpft.training.checkpoint import WEIGHTS, weights
from nlpft.training.optim import OptimConfig, build_optimizer

STEPS = 40


def with_biases() -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, tie_word_embeddings=False, max_position_embeddings=256, max_window_layers=3,
        )
    )  # fmt: skip


def settings(name, **more):
    return plugins.settings("tuning", name).__class__(**more)


# What trains, by name; a new method belongs here (and a method in 4 bits in test_qlora.py).
PROMISES = {
    "full": (settings("full"), lambda name: True),
    "gradual": (settings("gradual", every=5), lambda name: True),
    "lora": (settings("lora", rank=4), lambda name: ".lora_" in name),
    "lora, pissa": (settings("lora", rank=4, init="pissa"), lambda name: ".lora_" in name),
    "dora": (settings("dora", rank=4), lambda name: ".lora_" in name),
    "freeze": (settings("freeze", train_last=1), lambda name: "layers.2." in name),
    "freeze, patterns": (settings("freeze", train_last=0, patterns=("*norm*",)), lambda name: "norm" in name),
    "bitfit": (settings("bitfit"), lambda name: name.endswith("bias")),
    "head_only": (settings("head_only"), lambda name: name == "lm_head.weight"),
}
ELSEWHERE = {"qlora"}


def trained(case):
    config, _ = PROMISES[case]
    model = plugins.load("tuning", config.name).apply(with_biases(), config)
    optimizer = build_optimizer(model, OptimConfig(), method.rate_factors(model, config))
    before = steps.copied(model)
    losses = steps.train(model, optimizer, STEPS, 0.01, method.hold(model, config, STEPS))
    return model, losses, steps.moved(model, before)


def test_every_method_is_tested():
    assert {case.split(",")[0] for case in PROMISES} | ELSEWHERE == set(plugins.names("tuning"))


@pytest.mark.parametrize("case", PROMISES)
def test_the_loss_falls_and_exactly_the_promised_weights_move(case):
    model, losses, moved = trained(case)
    assert losses[-1] < losses[0] - 0.01
    promised = {name for name, _ in model.named_parameters() if PROMISES[case][1](name)}
    # No gradient can reach the bias of keys: it adds the same to all scores of a query, but for rounding.
    assert promised - {name for name in promised if "k_proj.bias" in name} <= moved <= promised
    assert {name.removeprefix(WEIGHTS) for name in weights(model)} == promised


@pytest.mark.parametrize("case", PROMISES)
def test_what_is_saved_computes_what_was_trained(case, tmp_path):
    tokenizer = load_tokenizer(str(tiny.save_tokenizer(tmp_path / "tokenizer")))
    with_biases().save_pretrained(tmp_path / "base")
    model, _, _ = trained(case)
    batch = steps.packed()
    expected = forward(model.eval(), batch, batch["positions"]).detach()
    save_model(model, tmp_path / "saved", tokenizer, {})
    if hasattr(model, "peft_config"):
        save_model(model, tmp_path / "saved", tokenizer, {})  # to save changes nothing
        base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
        again = peft.PeftModel.from_pretrained(base, str(tmp_path / "saved"))
    else:
        again = load_model(str(tmp_path / "saved"), "float32")
    got = forward(again.eval(), batch, batch["positions"])
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", PROMISES)
def test_before_training_the_model_computes_what_was_pretrained(case):
    config, _ = PROMISES[case]
    batch = steps.packed()
    expected = forward(with_biases().eval(), batch, batch["positions"])
    model = plugins.load("tuning", config.name).apply(with_biases(), config).eval()
    torch.testing.assert_close(forward(model, batch, batch["positions"]), expected, rtol=1e-4, atol=1e-5)
