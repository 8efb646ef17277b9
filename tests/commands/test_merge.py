"""`nlpft merge`: whole weights that give the adapter's logits, or nothing at all."""

import json
import os
import re
import signal

import pytest
import tiny
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

from nlpft import cli
from nlpft.models import four_bits, merge, shards, streamed
from nlpft.models.load import load_model, load_tokenizer, save_model
from nlpft.tuning import lora

IDS = torch.arange(3, 60)[None]


def save_adapter(base, folder, strength: float = 0.05, targets=("all-linear",)):
    """An adapter on `base` as a run saves it; `strength`: size of its weights, 0 as before training."""
    model = lora.apply(load_model(str(base)), lora.Config(rank=4, targets=targets))
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=strength)
    folder.mkdir(parents=True)
    save_model(model, folder, load_tokenizer(str(base)), {"base": str(base), "template_hash": "abc"})
    return folder


@pytest.fixture
def adapter(tmp_path, tiny_folder):
    return save_adapter(tiny_folder, tmp_path / "adapter")


@torch.no_grad()
def logits(folder, ids=IDS) -> torch.Tensor:
    return load_model(str(folder), "float32").eval()(ids).logits


def test_merged_weights_give_the_adapters_logits(adapter, tiny_folder, tmp_path, capsys):
    assert cli.main(["merge", str(adapter), "-o", str(tmp_path / "out")]) == 0
    assert "allowed" in capsys.readouterr().out
    assert not (tmp_path / "out" / "adapter_config.json").exists()
    assert torch.allclose(logits(tmp_path / "out"), logits(adapter), atol=1e-5)
    assert not torch.allclose(logits(tiny_folder), logits(adapter), atol=1e-2)


@pytest.mark.parametrize("words", [[], ["OTHER", "--weights", "1", "1"]])
def test_a_merge_that_is_terminated_leaves_nothing(adapter, tiny_folder, tmp_path, monkeypatch, capsys, words):
    other = save_adapter(tiny_folder, tmp_path / "other")
    monkeypatch.setattr(merge, "check", lambda *args: os.kill(os.getpid(), signal.SIGTERM))
    words = [str(other) if word == "OTHER" else word for word in words]
    assert cli.main(["merge", str(adapter), *words, "-o", str(tmp_path / "out")]) == 143
    assert "terminated" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "other"]


def test_all_that_is_half_made_lies_where_the_next_call_cleans_up(adapter, tiny_folder, tmp_path, monkeypatch):
    other = save_adapter(tiny_folder, tmp_path / "other")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "elsewhere"))
    line = ["merge", str(adapter), str(other), "--weights", "1", "1", "-o", str(tmp_path / "out")]
    assert cli.main(line) == 0


def test_tokenizer_template_and_facts_come_along(adapter, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    tokenizer.chat_template = "{# mine #}"
    tokenizer.save_pretrained(adapter)
    assert cli.main(["merge", str(adapter), "-o", str(tmp_path / "out")]) == 0
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == "{# mine #}"
    facts = json.loads((tmp_path / "out" / "nlpft.json").read_text())
    assert facts["template_hash"] == "abc"
    assert facts["merged_from"] == str(adapter)


def test_a_run_folder_stands_for_its_model(tiny_folder, tmp_path, capsys):
    save_adapter(tiny_folder, tmp_path / "run" / "model")
    assert (
        cli.main(["merge", str(tmp_path / "run"), "-o", str(tmp_path / "out")]) == 2
    )  # no run without its config.yaml
    assert f"did you mean {tmp_path / 'run' / 'model'}" in capsys.readouterr().err
    (tmp_path / "run" / "config.yaml").touch()
    assert cli.main(["merge", str(tmp_path / "run"), "-o", str(tmp_path / "out")]) == 0
    assert torch.allclose(logits(tmp_path / "out"), logits(tmp_path / "run" / "model"), atol=1e-5)


def test_a_run_that_has_not_ended_has_no_model_yet(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    assert cli.main(["merge", str(tmp_path / "run"), "-o", str(tmp_path / "out")]) == 2
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize(("dtype", "written"), [("auto", "float32"), ("bfloat16", "bfloat16"), ("float16", "float16")])
def test_weights_have_the_type_asked_for_or_the_bases(adapter, tmp_path, dtype, written):
    assert cli.main(["merge", str(adapter), "-o", str(tmp_path / "out"), "--dtype", dtype]) == 0
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == written
    off = merge.distance(logits(tmp_path / "out"), logits(adapter))
    assert off < merge.TOLERANCES[written]


def test_auto_keeps_a_bfloat16_base_in_bfloat16(tmp_path):
    base = tiny.save_model(tmp_path / "base")
    tiny.make_model().bfloat16().save_pretrained(base)
    adapter = save_adapter(base, tmp_path / "adapter")
    assert cli.main(["merge", str(adapter), "-o", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_wrong_merge_is_found_before_anything_is_written(adapter, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(streamed, "merged", lambda layer: layer.get_base_layer())  # the base without the adapter
    assert cli.main(["merge", str(adapter), "-o", str(tmp_path / "out")]) == 2
    assert "the merged weights are not the adapted model" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_weights_lost_on_the_way_to_the_disk_are_found(adapter, tmp_path, monkeypatch, capsys):
    write = shards.write
    nothing = lambda file, layouts, tensors: write(file, layouts, ((n, t * 0) for n, t in tensors))  # noqa: E731
    monkeypatch.setattr(shards, "write", nothing)
    assert cli.main(["merge", str(adapter), "-o", str(tmp_path / "out")]) == 2
    assert "the weights as written are not the adapted model" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_logits_that_are_no_numbers_fail_the_check():
    with pytest.raises(merge.ModelError):
        merge.check("these", float("nan"), 1.0)


def test_an_adapter_without_effect_is_pointed_out(tiny_folder, tmp_path, capsys):
    adapter = save_adapter(tiny_folder, tmp_path / "adapter", strength=0)
    assert cli.main(["merge", str(adapter), "-o", str(tmp_path / "out")]) == 0
    assert "changes nothing" in capsys.readouterr().out


def test_an_effect_that_rounding_takes_away_is_pointed_out(tiny_folder, tmp_path, capsys):
    adapter = save_adapter(tiny_folder, tmp_path / "adapter", strength=1e-4)
    assert cli.main(["merge", str(adapter), "-o", str(tmp_path / "half"), "--dtype", "bfloat16"]) == 0
    assert "rounds away" in capsys.readouterr().out
    assert cli.main(["merge", str(adapter), "-o", str(tmp_path / "full")]) == 0
    assert "rounds away" not in capsys.readouterr().out


def test_what_cannot_be_merged_is_refused_with_the_reason(adapter, tiny_folder, tmp_path, monkeypatch, capsys):
    import peft

    prompt = peft.get_peft_model(
        load_model(str(tiny_folder)), peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    )
    prompt.save_pretrained(tmp_path / "prompt")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    before = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    for words, said in (
        ([tiny_folder, "-o", tmp_path / "out"], "not an adapter (no adapter_config.json)"),
        ([tmp_path / "prompt", "-o", tmp_path / "out"], "cannot be merged"),
        ([adapter, "-o", tmp_path / "full"], "not a folder that nlpft has made"),
        ([adapter, "-o", adapter, "--overwrite"], "holds the adapter itself"),
        ([adapter, "-o", ".", "--overwrite"], "holds the adapter itself"),
    ):
        assert cli.main(["merge", *map(str, words)]) == 2
        assert said in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_a_fallback_to_the_whole_model_gives_the_same_weights_and_says_why(adapter, tmp_path, monkeypatch, capsys):
    assert cli.main(["merge", str(adapter), "-o", str(tmp_path / "by_modules")]) == 0
    assert "as a whole" not in capsys.readouterr().out

    def refuse(folder):
        raise streamed.Unstreamable("these weights are odd")

    monkeypatch.setattr(streamed, "skeleton", refuse)
    assert cli.main(["merge", str(adapter), "-o", str(tmp_path / "whole")]) == 0
    assert "merged as a whole, in memory: these weights are odd" in capsys.readouterr().out
    assert torch.allclose(logits(tmp_path / "whole"), logits(tmp_path / "by_modules"), atol=1e-6)


def test_four_bits_say_what_quantizing_again_would_lose(adapter, tiny_folder, tmp_path, capsys):
    assert cli.main(["merge", str(adapter), "-o", str(tmp_path / "out"), "--four_bits"]) == 0
    merged, again = map(float, re.search(r"logits are (\S+) off, and (\S+) if", capsys.readouterr().out).groups())
    trained = PeftModel.from_pretrained(four_bits.quantize(load_model(str(tiny_folder), "float32")), adapter).eval()
    twice = four_bits.quantize(load_model(str(tmp_path / "out"), "float32").eval())
    ids = merge.probe(twice)
    with torch.no_grad():
        expected = trained(ids).logits
        assert merged == pytest.approx(merge.distance(logits(tmp_path / "out", ids), expected), rel=0.05)
        assert again == pytest.approx(merge.distance(twice(ids).logits, expected), rel=0.05)
    assert min(merged, again) > 1e-3


def test_a_base_stored_in_four_bits_is_merged_into_what_it_stands_for(tmp_path, capsys):
    stored = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    base, wide = tiny.save_tokenizer(tmp_path / "base"), tmp_path / "wide"  # as one of bitsandbytes' blocks of 64
    changes = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16, "num_key_value_heads": 4, "dtype": None}
    LlamaForCausalLM(LlamaConfig(**{**tiny.make_model().config.to_dict(), **changes})).save_pretrained(wide)
    AutoModelForCausalLM.from_pretrained(wide, quantization_config=stored).save_pretrained(base)
    adapter = save_adapter(base, tmp_path / "adapter")
    assert cli.main(["merge", str(adapter), "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "its base's weights are quantized" in said
    assert "quantized to 4 bits again" in said
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())
    assert merge.distance(logits(tmp_path / "out"), logits(adapter)) < 1e-2  # in 4 bits PEFT computes in less


def test_an_adapter_for_another_base_is_refused_whichever_way_it_differs(tmp_path, tiny_folder, capsys):
    config = tiny.make_model().config
    changes = {"wide": {"hidden_size": 64}, "deep": {"num_hidden_layers": 4}, "flat": {"num_hidden_layers": 2}}
    for name, change in changes.items():
        other = tiny.save_tokenizer(tmp_path / name)
        LlamaForCausalLM(LlamaConfig(**{**config.to_dict(), **change})).save_pretrained(other)
        adapter = save_adapter(other, tmp_path / f"adapter-{name}", targets=("q_proj", "up_proj"))
        settings = json.loads((adapter / "adapter_config.json").read_text())
        (adapter / "adapter_config.json").write_text(
            json.dumps({**settings, "base_model_name_or_path": str(tiny_folder)})
        )
        assert cli.main(["merge", str(adapter), "-o", str(tmp_path / "out")]) == 2
        assert str(adapter) in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("whose", ["base", "adapter"])
def test_a_file_cut_short_is_named(tmp_path, whose, capsys):
    base = tiny.save_model(tmp_path / "base")
    adapter = save_adapter(base, tmp_path / "adapter")
    file = {"base": base / "model.safetensors", "adapter": adapter / "adapter_model.safetensors"}[whose]
    file.write_bytes(file.read_bytes()[:-100])
    assert cli.main(["merge", str(adapter), "-o", str(tmp_path / "out")]) == 2
    assert str(file) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
