"""`nlpft merge` and `nlpft export` of models with heads: what is written answers as what was trained, or nothing is written."""

import csv
import json
from importlib.util import find_spec

import pytest
import tiny_heads
import torch

from nlpft import cli, plugins
from nlpft.models import heads
from nlpft.models.load import load_tokenizer, save_model
from nlpft.models.merge import distance
from nlpft.serving import _onnx_head, onnx
from nlpft.types import Task

needs_onnx = pytest.mark.skipif(any(find_spec(name) is None for name in onnx.NEEDED), reason="onnx is not installed")
IDS = torch.tensor([[2, 5, 7, 3], [2, 9, 3, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_heads.save_bert(tmp_path_factory.mktemp("bert"))


def save(folder, base, task=tiny_heads.YES_NO, method="lora", change=0.3):
    """A head on `base` as a run saves it, the weights that train moved by `change`."""
    module = plugins.load("tuning", method)
    config = module.Config(rank=4) if method == "lora" else module.Config()
    model = heads.train_head(module.apply(heads.new_head(str(base), "float32", task), config))
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(change * torch.randn_like(weight) * weight.requires_grad)
    save_model(model.eval(), folder, load_tokenizer(str(base)), heads.facts(task, base=str(base), temperature=2.0))
    return folder


@torch.no_grad()
def logits(folder):
    model = heads.trained_head(str(folder), "float32").eval()
    return model(input_ids=IDS, attention_mask=MASK).logits


def predictions(folder, file):
    assert cli.main(["predict", str(folder), str(file), "-o", str(folder / "said.csv")]) == 0
    return list(csv.DictReader((folder / "said.csv").open()))


def test_a_merged_head_answers_as_the_adapter_and_its_head_do(tmp_path, bert, capsys):
    adapter, out = save(tmp_path / "adapter", bert), tmp_path / "out"
    assert cli.main(["merge", str(adapter), "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert "the adapter moves the logits by" in said
    assert "the adapter changes nothing" not in said
    assert not (out / "adapter_config.json").exists()
    assert torch.allclose(logits(out), logits(adapter), atol=1e-5)
    (tmp_path / "in.csv").write_text("text\ngood film\nbad bad play\n")
    own, merged = (predictions(folder, tmp_path / "in.csv") for folder in (adapter, out))
    assert [row["prediction"] for row in merged] == [row["prediction"] for row in own]
    assert [float(row["p_yes"]) for row in merged] == pytest.approx([float(row["p_yes"]) for row in own], abs=1e-5)


def test_the_effect_of_a_merged_adapter_is_its_effect_on_the_body(tmp_path, bert, capsys):
    folder = save(tmp_path / "adapter", bert, change=0)  # its head is new all the same
    assert cli.main(["merge", str(folder), "-o", str(tmp_path / "out")]) == 0
    assert "the adapter changes nothing" in capsys.readouterr().out


def test_a_merged_head_is_written_in_the_type_that_is_asked_for(tmp_path, bert):
    adapter = save(tmp_path / "adapter", bert)
    assert cli.main(["merge", str(adapter), "-o", str(tmp_path / "out"), "--dtype", "bfloat16"]) == 0
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "bfloat16"
    assert 1e-4 < distance(logits(tmp_path / "out"), logits(adapter)) < 0.1


def test_what_cannot_be_done_with_a_head_is_refused_with_what_can(tmp_path, bert, capsys):
    folder = save(tmp_path / "adapter", bert)
    for words, said in (
        (["merge", "--four_bits"], "has a head, of which --four_bits says nothing"),
        (["export"], "--to folder: serves language models"),
        (["export", "--to", "ollama"], "take --to onnx, or nlpft merge and predict"),
    ):
        assert cli.main([words[0], str(folder), "-o", str(tmp_path / "out"), *words[1:]]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@needs_onnx
@pytest.mark.parametrize(
    ("task", "method"),
    [
        (tiny_heads.YES_NO, "lora"),
        (tiny_heads.YES_NO, "full"),
        (tiny_heads.TAGS, "lora"),
        (Task("regression"), "full"),
    ],
    ids=["classify-lora", "classify-full", "tag-lora", "regression-full"],
)
def test_an_onnx_file_gives_the_trained_heads_logits_for_padded_rows(tmp_path, bert, task, method, capsys):
    import onnxruntime

    trained, out = save(tmp_path / "trained", bert, task, method), tmp_path / "out"
    assert cli.main(["export", str(trained), "-o", str(out), "--to", "onnx"]) == 0
    assert "off the model's under onnxruntime" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(out / "model.onnx")
    given = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": torch.zeros_like(IDS)}
    assert [x.name for x in session.get_inputs()] == list(given)
    (found,) = session.run(None, {name: x.numpy() for name, x in given.items()})
    there = MASK > 0 if task.kind == "tagging" else slice(None)
    assert distance(torch.from_numpy(found)[there], logits(trained)[there]) < 1e-5
    facts = json.loads((out / "nlpft.json").read_text())
    assert facts["task"]["labels"] == list(task.labels)
    assert facts["temperature"] == 2.0
    assert (out / "tokenizer.json").is_file()


@needs_onnx
def test_a_decoders_head_reads_the_last_token_in_onnx_too(tmp_path, tiny_folder):
    import onnxruntime

    trained = save(tmp_path / "trained", tiny_folder, method="full", change=0.02)
    assert cli.main(["export", str(trained), "-o", str(tmp_path / "out"), "--to", "onnx"]) == 0
    session = onnxruntime.InferenceSession(tmp_path / "out/model.onnx")
    pad = heads.trained_head(str(trained), "float32").config.pad_token_id
    (long,) = session.run(None, {"input_ids": [[5, 6, 7], [5, 6, pad]], "attention_mask": [[1, 1, 1], [1, 1, 0]]})
    (short,) = session.run(None, {"input_ids": [[5, 6]], "attention_mask": [[1, 1]]})
    assert long[1].tolist() == pytest.approx(short[0].tolist(), abs=1e-5)
    assert abs(long[0] - long[1]).max() > 1e-3


@needs_onnx
def test_an_onnx_file_of_a_head_that_computes_otherwise_is_not_kept(tmp_path, bert, monkeypatch, capsys):
    other = heads.new_head(str(bert), "float32", tiny_heads.YES_NO).eval()
    monkeypatch.setattr(
        _onnx_head, "export", lambda module, *rest, write=_onnx_head.export: write(_onnx_head.Scores(other), *rest)
    )
    trained = save(tmp_path / "trained", bert)
    assert cli.main(["export", str(trained), "-o", str(tmp_path / "out"), "--to", "onnx"]) == 2
    assert "does not compute what the model does" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
