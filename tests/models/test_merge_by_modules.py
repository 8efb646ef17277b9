"""Merging module by module gives the adapted model's logits for every kind of adapter, in the base's files, in little memory."""

import json
import os
import subprocess
import sys

import peft
import pytest
import tiny
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from nlpft.models import merge, shards, streamed

IDS = torch.arange(3, 60)[None]
KINDS = {
    "lora": peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"]),
    "rslora": peft.LoraConfig(r=4, target_modules="all-linear", use_rslora=True, rank_pattern={"q_proj": 8}),
    "dora": peft.LoraConfig(r=4, target_modules="all-linear", use_dora=True),
    "embedding": peft.LoraConfig(r=4, target_modules=["q_proj", "embed_tokens"]),
    "head": peft.LoraConfig(r=4, target_modules=["q_proj", "lm_head"]),
    "saved_head": peft.LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"]),
    "saved_norms": peft.LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens", "input_layernorm"]),
    "tokens": peft.LoraConfig(r=4, target_modules=["q_proj"], trainable_token_indices=[3, 4, 5]),
    "ia3": peft.IA3Config(target_modules=["q_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "loha": peft.LoHaConfig(r=4, target_modules=["q_proj"]),
}
UNTIED = ("embedding", "head", "saved_head", "saved_norms")


def shaken(model, settings, folder, base):
    """An adapter with all its weights away from where they begin; the logits of the model with it."""
    torch.manual_seed(1)
    model = peft.get_peft_model(model, settings).eval()
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data += torch.randn_like(weight) * 0.05
    model.save_pretrained(folder, save_embedding_layers=False)
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": str(base)}))
    with torch.no_grad():
        return model(input_ids=IDS).logits


def save_base(folder, model, shard="20KB"):
    tiny.save_tokenizer(folder)
    model.save_pretrained(folder, max_shard_size=shard)
    return folder


@torch.no_grad()
def logits(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()(input_ids=IDS).logits


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base"), tiny.make_model())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_adapter_is_merged_by_modules_into_the_bases_files(kind, base, tmp_path):
    expected = shaken(AutoModelForCausalLM.from_pretrained(base), KINDS[kind], tmp_path / "adapter", base)
    out = tmp_path / "out"
    out.mkdir()
    done = merge.merge(str(tmp_path / "adapter"), out)
    assert done.whole == ""
    assert done.untied == (kind in UNTIED)
    assert torch.allclose(logits(out), expected, atol=1e-5)
    assert merge.distance(logits(base), expected) > 3e-4
    untied = {"lm_head.weight": shards.index(base)["model.embed_tokens.weight"]} if kind in UNTIED else {}
    assert shards.index(out) == {**shards.index(base), **untied}


def test_weights_without_an_adapter_keep_every_bit(base, tmp_path):
    shaken(AutoModelForCausalLM.from_pretrained(base), KINDS["lora"], tmp_path / "adapter", base)
    (tmp_path / "out").mkdir()
    merge.merge(str(tmp_path / "adapter"), tmp_path / "out")
    for file in sorted(base.glob("*.safetensors")):
        before, after = load_file(file), load_file(tmp_path / "out" / file.name)
        for name, weight in before.items():
            assert torch.equal(weight, after[name]) == ("q_proj" not in name and "v_proj" not in name), name


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_biases_that_were_trained_are_merged(bias, tmp_path):
    config = Qwen2Config(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    torch.manual_seed(0)
    base = save_base(tmp_path / "base", Qwen2ForCausalLM(config))
    settings = peft.LoraConfig(r=4, target_modules=["q_proj"], bias=bias)
    expected = shaken(AutoModelForCausalLM.from_pretrained(base), settings, tmp_path / "adapter", base)
    (tmp_path / "out").mkdir()
    assert merge.merge(str(tmp_path / "adapter"), tmp_path / "out").whole == ""
    assert torch.allclose(logits(tmp_path / "out"), expected, atol=1e-5)
    changed = "model.layers.0.self_attn.k_proj.bias"
    before, after = (shards.read(f / shards.index(f)[changed], changed) for f in (base, tmp_path / "out"))
    assert torch.equal(before, after) == (bias == "lora_only")


def test_layers_that_store_their_weights_transposed_are_merged(tmp_path):
    torch.manual_seed(0)
    base = save_base(
        tmp_path / "base", GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=128))
    )
    settings = peft.LoraConfig(r=4, target_modules=["c_attn"], fan_in_fan_out=True)
    expected = shaken(AutoModelForCausalLM.from_pretrained(base), settings, tmp_path / "adapter", base)
    (tmp_path / "out").mkdir()
    assert merge.merge(str(tmp_path / "adapter"), tmp_path / "out").whole == ""
    assert torch.allclose(logits(tmp_path / "out"), expected, atol=1e-5)


class Borrowing(torch.nn.Module):
    """Has no weight of its own."""

    def __init__(self, table):
        super().__init__()
        self.table = [table]

    def forward(self, x):
        return x * self.table[0].weight[0]


class Handing(Borrowing):
    """Gives another's weight itself, which raises nothing."""

    def forward(self, x):
        return self.table[0].weight[None]


def test_a_module_that_uses_anothers_weights_is_found_not_computed_without_them(base):
    model, source = streamed.skeleton(base)
    table = model.model.embed_tokens
    model.model.norm = Borrowing(table)
    with pytest.raises(streamed.Unstreamable, match="of another"):
        streamed.logits(model, source.read, IDS)
    model, source = streamed.skeleton(base)
    model.lm_head = Handing(model.model.embed_tokens)
    with pytest.raises(streamed.Unstreamable, match="of another"):
        streamed.logits(model, source.read, IDS)


def test_names_that_the_model_does_not_know_are_not_guessed(base, tmp_path):
    save_base(tmp_path / "other", tiny.make_model(), "1GB")
    weights = load_file(tmp_path / "other" / shards.SINGLE)
    named = {name.replace("model.", "transformer."): weight.clone() for name, weight in weights.items()}
    shards.write(
        tmp_path / "other" / shards.SINGLE,
        {n: shards.Layout(t.dtype, tuple(t.shape)) for n, t in named.items()},
        named.items(),
    )
    with pytest.raises(streamed.Unstreamable, match="no tensor called model"):
        streamed.skeleton(tmp_path / "other")


MEASURE = """
import sys, threading
from pathlib import Path
import psutil
from nlpft.models import merge

merge.merge(sys.argv[1], Path(sys.argv[2]))  # a small one: imports, and what is made once
memory, done, seen = psutil.Process(), threading.Event(), []

def watch():
    while not done.wait(0.01):
        seen.append(memory.memory_info().rss)

before = memory.memory_info().rss
threading.Thread(target=watch).start()
try:
    assert not any(merge.merge(*pair).whole for pair in zip(sys.argv[3::2], map(Path, sys.argv[4::2])))
finally:
    done.set()
print(max(seen) - before)
"""


def test_memory_follows_the_largest_weight_not_the_model_or_its_files(base, tmp_path):
    """A model of 90 MiB in one file, whose largest weight has 4 MiB."""
    config = tiny.make_model().config.to_dict()
    sizes = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 6, "head_dim": 128}
    torch.manual_seed(0)
    large = save_base(tmp_path / "base", LlamaForCausalLM(LlamaConfig(**{**config, **sizes})), "1GB")
    words = []
    for name, folder in {"small": base, "large": large}.items():
        shaken(AutoModelForCausalLM.from_pretrained(folder), KINDS["lora"], tmp_path / name, folder)
        (tmp_path / f"out-{name}").mkdir()
        words += [str(tmp_path / name), str(tmp_path / f"out-{name}")]
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}  # what is freed leaves the process
    ran = subprocess.run([sys.executable, "-c", MEASURE, *words], capture_output=True, text=True, check=True, env=env)
    size = (large / shards.SINGLE).stat().st_size
    assert int(ran.stdout) < size / 3, f"{int(ran.stdout) / 2**20:.0f} MiB for {size / 2**20:.0f} MiB of weights"
