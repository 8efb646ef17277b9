"""QLoRA: the base lies in 4 bits, the adapter trains beside it; where bitsandbytes is missing, the message says so."""

from importlib.util import find_spec

import pytest
import steps
import tiny
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from nlpft.errors import ConfigError
from nlpft.models.forward import forward
from nlpft.models.load import load_model, load_tokenizer, save_model
from nlpft.models.sizes import by_block
from nlpft.plugins import load
from nlpft.training import method
from nlpft.training.optim import OptimConfig, build_optimizer

QLORA = load("tuning", "qlora")
needs_bitsandbytes = pytest.mark.skipif(not find_spec("bitsandbytes"), reason="bitsandbytes is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model as wide as one of bitsandbytes' blocks of 64, below which its CPU kernels do not go."""
    folder = tmp_path_factory.mktemp("wide")
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=400, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=4, max_position_embeddings=256, tie_word_embeddings=True,
        )
    ).save_pretrained(folder)  # fmt: skip
    tiny.save_tokenizer(folder)
    return folder


def loaded(folder, **settings):
    return method.load(str(folder), "float32", QLORA.Config(rank=4, **settings))


@needs_bitsandbytes
def test_the_base_is_in_4_bits_and_only_the_adapter_moves_while_the_loss_falls(folder):
    model = loaded(folder)
    weight = model.base_model.model.model.layers[0].self_attn.q_proj.base_layer.weight
    assert weight.dtype == torch.uint8
    assert weight.quant_state.quant_type == "nf4"
    assert weight.quant_state.nested  # double quantisation
    before = steps.copied(model)
    losses = steps.train(model, build_optimizer(model, OptimConfig()), 10)
    assert losses[-1] < losses[0] - 0.05
    assert steps.moved(model, before) == {name for name in before if ".lora_" in name}


@needs_bitsandbytes
def test_numbers_in_4_bits_are_counted_as_what_they_stand_for(folder):
    whole = sum(p.numel() for p in load_model(str(folder), "float32").parameters())
    blocks = by_block(loaded(folder)).values()
    assert sum(b["all"] for b in blocks) == whole + sum(b["trains"] for b in blocks)


@needs_bitsandbytes
def test_what_is_saved_computes_what_was_trained_on_the_same_base(folder, tmp_path):
    from peft import PeftModel

    model, batch = loaded(folder), steps.packed()
    steps.train(model, build_optimizer(model, OptimConfig()), 3)
    expected = forward(model.eval(), batch, batch["positions"]).detach()
    save_model(model, tmp_path / "saved", load_tokenizer(str(folder)), {})
    base = load_model(str(folder), "float32", **QLORA.load_options(QLORA.Config(), torch.float32))
    # What trains nothing goes through other kernels of bitsandbytes on a CPU, which round.
    again = PeftModel.from_pretrained(base, str(tmp_path / "saved"), is_trainable=True).eval()
    torch.testing.assert_close(forward(again, batch, batch["positions"]), expected, rtol=1e-4, atol=1e-5)


@needs_bitsandbytes
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PEFT decomposes the error on a GPU")
def test_loftq_begins_nearer_to_the_whole_weights_than_4_bits_alone(folder):
    batch = steps.packed()
    whole = forward(load_model(str(folder), "float32").eval(), batch, batch["positions"])
    off = {
        init: (forward(loaded(folder, init=init, alpha=4).eval(), batch, batch["positions"]) - whole).norm().item()
        for init in ("default", "loftq")
    }
    assert 0 < off["loftq"] < off["default"]


def test_without_bitsandbytes_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(QLORA, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'pip install "nlpft\[qlora\]"'):
        QLORA.load_options(QLORA.Config(), torch.float32)


@needs_bitsandbytes
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_loftq_without_a_gpu_is_refused(folder):
    with pytest.raises(ConfigError, match=r"tuning\.init loftq"):
        loaded(folder, init="loftq")


def test_a_model_with_whole_weights_is_refused():
    with pytest.raises(ConfigError, match="not loaded in 4 bits"):
        QLORA.apply(tiny.make_model(), QLORA.Config())
