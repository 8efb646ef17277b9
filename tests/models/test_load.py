"""Models from folders and back: adapters name their base for others, and use its tokenizer where they have none."""

import json
import shutil

import pytest
import tiny
import torch

from nlpft import plugins
from nlpft.errors import ConfigError, ModelError
from nlpft.models import load
from nlpft.models.blocks import blocks


@pytest.fixture
def adapter(tmp_path, tiny_folder):
    lora = plugins.load("tuning", "lora")
    model = lora.apply(load.load_model(str(tiny_folder)), lora.Config(rank=2))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    load.save_model(model, tmp_path / "adapter", load.load_tokenizer(str(tiny_folder)), {})
    return model.eval(), tmp_path / "adapter"


def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(10)[None]).logits


def test_an_adapter_is_put_on_its_base_and_is_active(adapter, tiny_folder):
    model, folder = adapter
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == str(tiny_folder)
    loaded = load.load_model(str(folder)).eval()
    torch.testing.assert_close(logits(loaded), logits(model))
    assert not torch.allclose(logits(loaded), logits(load.load_model(str(tiny_folder)).eval()), atol=1e-3)


def test_an_adapter_without_tokenizer_has_its_bases(adapter, tiny_folder):
    _, folder = adapter
    assert load.tokenizer_folder(str(folder)) == folder
    (folder / "tokenizer.json").unlink()
    assert load.tokenizer_folder(str(folder)) == tiny_folder


def test_smollm2_is_saved_under_the_name_that_others_know(smollm2):
    assert load.load_model("smollm2-135m").name_or_path == "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.mark.parametrize("damage", ["cut", "empty", "missing"])
def test_broken_weights_are_a_message_not_a_traceback(tmp_path, tiny_folder, damage):
    shutil.copytree(tiny_folder, tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    if damage == "missing":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:1000] if damage == "cut" else b"")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load.load_model(str(tmp_path / "m"))


def test_a_template_given_by_the_data_is_saved_with_the_model(tiny_folder):
    assert load.load_tokenizer(str(tiny_folder), "{{ 'x' }}").chat_template == "{{ 'x' }}"


@pytest.mark.parametrize(("last", "head"), [(1, False), (2, True), (0, True)])
def test_freezing_trains_the_last_blocks_and_nothing_else(last, head):
    freeze = plugins.load("tuning", "freeze")
    model = freeze.apply(tiny.make_model(), freeze.Config(train_last=last, train_head=head))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    stack = blocks(model)
    assert len(stack) == 3
    for i, block in enumerate(stack):
        assert all(p.requires_grad == (i >= 3 - last) for p in block.parameters())
    outside = {name for name in trained if "layers." not in name}
    assert outside == ({"model.embed_tokens.weight"} if head else set())  # tied: the head is the embedding


def test_full_trains_every_weight():
    full = plugins.load("tuning", "full")
    assert all(p.requires_grad for p in full.apply(tiny.make_model().requires_grad_(False), full.Config()).parameters())


def test_lora_trains_only_its_own_weights_and_says_what_there_is():
    lora = plugins.load("tuning", "lora")
    model = lora.apply(tiny.make_model(), lora.Config(rank=3, targets=("q_proj", "v_proj")))
    trained = {name: p.shape for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 3 * 2 * 2
    assert all("lora_" in name and 3 in shape for name, shape in trained.items())
    with pytest.raises(ConfigError, match=r"w_proj.*down_proj"):
        lora.apply(tiny.make_model(), lora.Config(targets=("w_proj",)))
    with pytest.raises(ConfigError, match="rank 0"):
        lora.apply(tiny.make_model(), lora.Config(rank=0))


def test_a_gpu_without_bfloat16_gets_float32_or_is_refused(monkeypatch):
    monkeypatch.setattr(load, "device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla V100")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert load.weight_type("auto") == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert load.weight_type("auto") == torch.float32
    with pytest.raises(ConfigError, match="Tesla V100 does not compute in it; set dtype float32"):
        load.weight_type("bfloat16")
