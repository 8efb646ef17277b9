"""`nlpft export`: what a serving program gets answers as the adapter does and stops where a turn ends, or nothing is left."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import peft
import pytest
import tiny
import torch
from adapters import save_adapter
from tokenizers import processors
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from nlpft import cli
from nlpft.models.load import load_model
from nlpft.models.merge import distance
from nlpft.serving import onnx
from nlpft.templates import chatml

IDS = torch.arange(3, 60)[None]
needs_onnx = pytest.mark.skipif(any(find_spec(name) is None for name in onnx.NEEDED), reason="onnx is not installed")


@pytest.fixture
def base(tmp_path):
    """A base that ends its sequences otherwise than a chat ends its turns."""
    folder = tiny.save_model(tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.save_pretrained(folder)
    GenerationConfig(eos_token_id=0, temperature=0.5, do_sample=True).save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(tmp_path, base):
    folder = save_adapter(tmp_path / "run" / "model", base, 0.5)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    (folder.parent / "config.yaml").touch()
    return folder


def export(*words) -> int:
    return cli.main(["export", *map(str, words)])


@torch.no_grad()
def logits(folder):
    return load_model(str(folder), "float32").eval()(IDS).logits


def test_a_folder_gives_the_adapters_logits_prompts_and_ends(adapter, base, tmp_path, capsys):
    assert export(adapter.parent, "-o", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert f"vllm serve {tmp_path / 'out'}" in said
    assert torch.allclose(logits(tmp_path / "out"), logits(adapter), atol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.chat_template == chatml.CHAT_TEMPLATE
    ends = GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id
    assert ends == tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert GenerationConfig.from_pretrained(tmp_path / "out").temperature == 0.5


def test_whole_weights_are_copied_as_they_are(base, tmp_path):
    (base / "optimizer.pt").write_bytes(b"x")
    assert export(base, "-o", tmp_path / "out") == 0
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()
    assert not (tmp_path / "out" / "optimizer.pt").exists()
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"] == [2, 0]
    assert json.loads((base / "generation_config.json").read_text())["eos_token_id"] == 0


def test_an_adapter_for_vllm_comes_with_its_command(adapter, base, tmp_path, capsys):
    assert export(adapter.parent, "-o", tmp_path / "out", "--adapter") == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("vllm"))
    assert f"vllm serve {base} --enable-lora --max-lora-rank 8 --lora-modules run={tmp_path / 'out'}" in line
    assert Path(line.split("--chat-template ")[1]).read_text() == chatml.CHAT_TEMPLATE
    model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "out").eval()
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, logits(adapter))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"use_dora": True}, "is DoRA"),
        ({"modules_to_save": ["lm_head"]}, "brings whole modules"),
        ({"bias": "all"}, "brings biases"),
        ({"rank_pattern": {"q_proj": 600}}, "rank 600"),
        ({"peft_type": "IA3"}, "is IA3, not LoRA"),
    ],
)
def test_adapters_that_vllm_refuses_are_refused_here_with_the_remedy(adapter, tmp_path, change, said, capsys):
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert export(adapter.parent, "-o", tmp_path / "out", "--adapter") == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert "leave --adapter out" in printed
    assert not (tmp_path / "out").exists()


CONVERTER = """
import json, pathlib, struct, sys
model, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[sys.argv.index("--outfile") + 1])
assert (model / "model.safetensors").is_file() and (model / "tokenizer.json").is_file()
print("outtype", sys.argv[sys.argv.index("--outtype") + 1])
tensors = {tensors}
out.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, tensors, 0) + b"0" * 100)
sys.exit({code})
"""


def converter(folder, tensors=29, code=0):
    """A stand-in for llama.cpp's script, which is in no package."""
    path = folder / "convert_hf_to_gguf.py"
    path.write_text(CONVERTER.format(tensors=tensors, code=code))
    return path


def test_gguf_is_made_by_the_converter_that_is_named(adapter, tmp_path, capsys):
    assert export(adapter.parent, "-o", tmp_path / "out", "--to", "gguf", "--converter", converter(tmp_path)) == 0
    assert "model.gguf: 29 tensors" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"model.gguf", "nlpft.json"}


def test_a_converter_on_the_path_is_found(adapter, tmp_path, monkeypatch):
    script = converter(tmp_path)
    script.write_text(f"#!{sys.executable}\n{script.read_text()}")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert export(adapter.parent, "-o", tmp_path / "out", "--to", "gguf") == 0


@pytest.mark.parametrize(("tensors", "code", "said"), [(29, 3, "ended with 3"), (0, 0, "wrote no tensors")])
def test_a_converter_that_fails_leaves_nothing_and_its_words_are_shown(adapter, tmp_path, tensors, code, said, capsys):
    script = converter(tmp_path, tensors, code)
    assert (
        export(adapter.parent, "-o", tmp_path / "out", "--to", "gguf", "--converter", script, "--outtype", "q8_0") == 2
    )
    printed = capsys.readouterr().err
    assert said in printed
    assert "outtype q8_0" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "convert_hf_to_gguf.py", "run"]


def test_ollama_gets_weights_template_stops_and_parameters(adapter, base, tmp_path, capsys):
    assert export(adapter.parent, "-o", tmp_path / "out", "--to", "ollama") == 0
    assert f"ollama create run -f {tmp_path / 'out'}/Modelfile" in capsys.readouterr().out
    lines = (tmp_path / "out" / "Modelfile").read_text().splitlines()
    assert lines[:3] == ["FROM .", 'TEMPLATE """{{- $last := "" }}', "{{- range .Messages }}"]
    assert lines[-5:] == [
        '{{- end }}"""',
        'PARAMETER stop "<|im_end|>"',
        'PARAMETER stop "<|endoftext|>"',
        "PARAMETER temperature 0.5",
        "PARAMETER num_ctx 256",
    ]
    assert torch.allclose(logits(tmp_path / "out"), logits(adapter), atol=1e-5)


def test_ollama_takes_an_adapter_or_a_gguf_file(adapter, base, tmp_path):
    assert export(adapter.parent, "-o", tmp_path / "one", "--to", "ollama", "--adapter") == 0
    assert (tmp_path / "one" / "Modelfile").read_text().splitlines()[:2] == [f"FROM {base}", "ADAPTER ."]
    assert (tmp_path / "one" / "adapter_model.safetensors").is_file()
    assert export(adapter.parent, "-o", tmp_path / "two", "--to", "ollama", "--converter", converter(tmp_path)) == 0
    assert (tmp_path / "two" / "Modelfile").read_text().startswith("FROM ./model.gguf\n")
    assert (tmp_path / "two" / "model.gguf").is_file()


def test_a_token_that_begins_sequences_is_left_to_ollama_only_if_the_tokenizer_adds_it(adapter, tmp_path, capsys):
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    tokenizer.bos_token = "<|im_start|>"  # as SmolLM2 has it: the token of turns, which nothing puts before a text
    tokenizer.save_pretrained(adapter)
    assert export(adapter.parent, "-o", tmp_path / "one", "--to", "ollama") == 0
    assert r'{{ "<|im_start|>user\n" }}' in (tmp_path / "one" / "Modelfile").read_text()
    assert "note:" not in capsys.readouterr().out
    tokenizer.bos_token = "<|endoftext|>"
    added = processors.TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
    tokenizer.backend_tokenizer.post_processor = added
    for template, written in (("{{ bos_token }}" + chatml.CHAT_TEMPLATE, False), (chatml.CHAT_TEMPLATE, True)):
        tokenizer.chat_template = template
        tokenizer.save_pretrained(adapter)
        assert export(adapter.parent, "-o", tmp_path / "two", "--to", "ollama", "--overwrite") == 0
        assert '{{ "<|endoftext|>' not in (tmp_path / "two" / "Modelfile").read_text()
        assert ("note: Ollama puts <|endoftext|>" in capsys.readouterr().out) == written


@needs_onnx
def test_onnx_computes_the_adapters_logits_for_shapes_it_has_not_seen(adapter, tmp_path, capsys):
    import onnxruntime

    assert export(adapter.parent, "-o", tmp_path / "out", "--to", "onnx") == 0
    assert "no cache" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    (found,) = session.run(None, {"input_ids": IDS.numpy()})
    assert distance(torch.from_numpy(found), logits(adapter)) < 1e-5
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == chatml.CHAT_TEMPLATE
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".onnx", ".data", ".json", ".jinja"}


@needs_onnx
def test_an_onnx_file_that_computes_otherwise_is_not_kept(adapter, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        onnx, "export", lambda model, file, export=onnx.export: export(tiny.make_model(seed=7).eval(), file)
    )
    assert export(adapter.parent, "-o", tmp_path / "out", "--to", "onnx") == 2
    assert "does not compute what the model does" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_missing_is_said_before_anything_is_loaded(adapter, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    for words, said in (
        (["--to", "gguf"], "--converter llama.cpp/convert_hf_to_gguf.py"),
        (["--to", "gguf", "--converter", "gone.py"], "no such file"),
        (["--to", "onnx"], 'pip install "nlpft[onnx]"'),
        (["--to", "olama"], "did you mean 'ollama'"),
        (["--to", "onnx", "--adapter"], "leave it out"),
    ):
        assert export(adapter.parent, "-o", tmp_path / "out", *words) == 2
        assert said in capsys.readouterr().err
    assert export(adapter.parent, "-o", tmp_path / "mine", "--overwrite") == 2
    assert export(adapter.parent, "-o", adapter, "--overwrite") == 2
    assert export(tmp_path / "base", "-o", tmp_path / "out", "--adapter") == 2
    assert "holds no adapter" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_model_without_a_chat_template_is_refused_with_the_remedy(tmp_path, capsys):
    folder = tiny.save_model(tmp_path / "base")
    tiny.save_tokenizer(folder, chat_template=None)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    for to in ("folder", "ollama"):
        assert export(folder, "-o", tmp_path / "out", "--to", to) == 2
        assert "nlpft convert --template" in capsys.readouterr().err
