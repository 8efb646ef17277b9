"""Losses row by row: as the objective counts them, and of a body whose language-modelling head has gone."""

import pytest
import torch
from corpora import CONFIGS, write_text
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from nlpft.data import new_tokenizer
from nlpft.data.convert import Options, convert
from nlpft.data.tokenizer import TextTokenizer
from nlpft.evaluation import compare, row_losses
from nlpft.models.kinds import KINDS
from nlpft.objectives import masked_lm


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a masked LM, a classifier on another body, and a dataset of theirs."""
    folder = tmp_path_factory.mktemp("row_losses")
    text = write_text(folder / "corpus.txt", 6)
    sizes = {k: v for k, v in CONFIGS["encoder"].items() if k != "model_type"}
    for name, auto, seed in (("lm", BertForMaskedLM, 0), ("head", BertForSequenceClassification, 1)):
        new_tokenizer.train([str(text)], "encoder", 120, folder / name)
        torch.manual_seed(seed)
        auto(BertConfig(vocab_size=120, **sizes)).save_pretrained(folder / name)
    convert([text], folder / "rows", TextTokenizer(folder / "lm"), Options(format="text", max_length=64))
    return folder


def measured(place, model):
    return row_losses.row_losses(str(place / "lm"), model, place / "rows", masked_lm.Config(), KINDS["encoder"], 64)


def test_a_body_without_its_head_is_measured_with_the_head_it_had(place):
    first, other = str(place / "lm"), str(place / "head")
    model = row_losses.language_model(other, first, KINDS["encoder"])
    head, body = BertForMaskedLM.from_pretrained(first), BertForSequenceClassification.from_pretrained(other)
    own = dict(model.bert.named_parameters())
    assert all(torch.equal(weight, own[name]) for name, weight in body.bert.named_parameters() if name in own)
    assert torch.equal(model.cls.predictions.transform.dense.weight, head.cls.predictions.transform.dense.weight)
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight  # still tied


def test_losses_are_the_same_in_every_call_and_compared_row_by_row(place, tmp_path):
    first = row_losses.language_model(str(place / "lm"), str(place / "lm"), KINDS["encoder"])
    other = row_losses.language_model(str(place / "head"), str(place / "lm"), KINDS["encoder"])
    found, again, moved = measured(place, first), measured(place, first), measured(place, other)
    assert found == again
    packed = row_losses.mean_loss(str(place / "lm"), first, place / "rows", masked_lm.Config(), KINDS["encoder"], 64)
    assert packed == pytest.approx(row_losses.mean(found))
    assert found["targets"] == moved["targets"]
    folders = [row_losses.write(tmp_path / n, n, x) for n, x in (("a", found), ("b", moved))]
    (comparison,) = compare.compare(*folders)
    assert comparison.n == len(found["nats"])
    assert comparison.base == pytest.approx(row_losses.mean(found))
    assert comparison.difference == pytest.approx(row_losses.mean(moved) - row_losses.mean(found))
