"""Robustness: no strength is no change, the gradient's direction is worse than another of its length, noise keeps the words."""

import json

import pytest
import tiny_heads
import torch

from nlpft import cli
from nlpft.data.example_batch import batch_of
from nlpft.data.labelled.options import LabelOptions
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import DataError
from nlpft.evaluation import robustness
from nlpft.models import heads
from nlpft.models.head_forward import logits
from nlpft.models.load import load_tokenizer, save_model
from nlpft.types import Layout

TASK, TAGS = tiny_heads.YES_NO, tiny_heads.TAGS


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_heads.save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.tsv"
    path.write_text("\n".join(["text\tlabel", *(f"{text}\t{label}" for label, text in tiny_heads.texts(20))]) + "\n")
    return path


@pytest.fixture
def model(bert):
    return heads.new_head(str(bert), "float32", TASK).eval()


def batches(packed):
    rows, layout = [[2, 5, 6, 3], [2, 7, 3]], Layout(packed, "first", token_types=True)
    return {**batch_of(rows, layout), "targets": torch.tensor([0, 1])}


@pytest.mark.parametrize("packed", [True, False])
def test_the_gradient_is_the_worst_direction_of_its_length(model, packed):
    model.set_attn_implementation("varlen" if packed else "sdpa")
    batch = batches(packed)
    loss = lambda scores: torch.nn.functional.cross_entropy(scores, batch["targets"], reduction="sum").item()  # noqa: E731
    plain, worst = loss(logits(model, batch)), loss(robustness.worst_logits(model, batch, 0.01))
    torch.manual_seed(0)

    def other(module, args, output):
        step = torch.randn_like(output)
        return output + 0.01 * robustness._norms(output, batch) / robustness._norms(step, batch) * step

    with torch.no_grad():
        others = []
        for _ in range(10):
            with robustness.hooked(model, other):
                others.append(loss(logits(model, batch)))
    assert worst > max(*others, plain)


def test_packed_and_padded_rows_are_moved_alike(model):
    found = []
    for packed in (True, False):
        model.set_attn_implementation("varlen" if packed else "sdpa")
        found.append(robustness.worst_logits(model, batches(packed), 0.1))
    assert torch.allclose(*found, atol=1e-4)
    assert not torch.allclose(found[0], logits(model, batches(False)), atol=1e-2)


def test_no_strength_changes_nothing(bert, file, model):
    model.set_attn_implementation("varlen")
    tokenizer = TextTokenizer(bert)
    rows = robustness.read(str(file), TASK, LabelOptions(task="classify"))
    assert (len(rows.examples), rows.left_out) == (20, 0)
    noise = robustness.under_noise(model, tokenizer, rows, (0.0, 1.0))
    gradient = robustness.under_gradient(model, tokenizer, rows, (0.0, 0.2))
    assert noise[0]["loss"] == pytest.approx(gradient[0]["loss"], rel=1e-5)
    assert noise[1]["loss"] != pytest.approx(noise[0]["loss"], rel=1e-3)
    assert gradient[1]["loss"] > gradient[0]["loss"]


def test_noise_mistypes_every_word_and_keeps_their_number(file):
    rows = robustness.read(str(file), TASK, LabelOptions(task="classify")).examples
    pairs = list(zip(rows, robustness.noised(rows, 1.0, 0), strict=True))
    assert all(len(a.text.split()) == len(b.text.split()) and a.label == b.label for a, b in pairs)
    words = [pair for a, b in pairs for pair in zip(a.text.split(), b.text.split(), strict=True)]
    assert sum(a != b for a, b in words) > 0.8 * len(words)  # two equal letters may change places


def test_labels_that_the_head_does_not_know_are_left_out_or_refused(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_text("text\tlabel\ngood\tyes\nbad\tperhaps\n")
    assert robustness.read(str(path), TASK, LabelOptions(task="classify")).left_out == 1
    path.write_text("text\tlabel\ngood\tmaybe\nbad\tperhaps\n")
    with pytest.raises(DataError, match=r"rows\.tsv: no row has a label of the model's; it knows no, yes"):
        robustness.read(str(path), TASK, LabelOptions(task="classify"))


@pytest.mark.parametrize("task", [TASK, TAGS])
def test_the_command_writes_measures_by_strength(task, bert, file, tmp_path, capsys):
    if task is TAGS:
        file = tmp_path / "rows.conll"
        file.write_text("good\tB-x\nfilm\tI-x\nbad\tO\n\nanna\tB-x\nmet\tO\n")
    save_model(
        heads.new_head(str(bert), "float32", task), tmp_path / "model", load_tokenizer(str(bert)), heads.facts(task)
    )
    words = ["robustness", str(tmp_path / "model"), str(file), "-o", str(tmp_path / "out.json"), "--noise", "0", "1"]
    assert cli.main(words) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert [line["strength"] for line in found["noise"]] == [0, 1]
    assert [line["strength"] for line in found["gradient"]] == [0, 0.01, 0.02, 0.05, 0.1]
    losses = [line["loss"] for line in found["gradient"]]
    assert losses == sorted(losses)
    assert losses[0] == pytest.approx(found["noise"][0]["loss"], rel=1e-4)
    assert "typing errors" in capsys.readouterr().out
    assert cli.main([*words[:-3], "--noise", "2"]) == 2
