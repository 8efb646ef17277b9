"""Raw text to rows: no token is lost where a document is cut, and what stands around a text stands around each piece."""

import itertools
import json

import corpora
import numpy as np
import pytest
from transformers import AutoTokenizer

from nlpft.data import new_tokenizer, store
from nlpft.data.convert import Options, convert
from nlpft.data.pack import rectangles
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ModelError

KINDS = ["decoder", "encoder", "encoder-decoder"]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return corpora.write_text(tmp_path_factory.mktemp("text") / "corpus.txt")


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("tokenizers")
    for kind in KINDS:
        new_tokenizer.train([str(text)], kind, 500, folder / kind)
    return folder


def rows(folder) -> dict[str, list[dict]]:
    """Rows of a dataset by the place of their document."""
    return {s: list(group) for s, group in itertools.groupby(store.read(folder).to_pylist(), lambda row: row["source"])}


@pytest.mark.parametrize("kind", KINDS)
def test_the_rows_of_a_document_are_its_tokens_in_order(kind, tmp_path, text, tokenizers):
    made = convert([text], tmp_path / "out", TextTokenizer(tokenizers / kind), Options(format="text", max_length=30))
    reference = AutoTokenizer.from_pretrained(tokenizers / kind)
    documents = text.read_text().strip().split("\n\n")
    found = rows(made.folder)
    assert len(found) == len(documents)
    cut = 0
    for document, pieces in zip(documents, found.values(), strict=True):
        ids = [
            token
            for row in pieces
            for token, label in zip(row["input_ids"], row["labels"], strict=True)
            if label != -100
        ]
        plain = reference(document, add_special_tokens=False).input_ids
        assert ids == plain + ([] if kind == "encoder" else [reference.eos_token_id])
        assert all(len(row["input_ids"]) == row["length"] <= 30 for row in pieces)
        assert all(row["length"] == 30 for row in pieces[:-1])  # nothing is left free before the last piece
        cut += len(pieces) - 1
    assert made.summary["extra_rows"] == cut > 20


def test_every_piece_of_an_encoders_document_stands_between_its_special_tokens(tmp_path, text, tokenizers):
    made = convert(
        [text], tmp_path / "out", TextTokenizer(tokenizers / "encoder"), Options(format="text", max_length=30)
    )
    reference = AutoTokenizer.from_pretrained(tokenizers / "encoder")
    table = store.read(made.folder).to_pylist()
    for row in table:
        assert (row["input_ids"][0], row["input_ids"][-1]) == (reference.cls_token_id, reference.sep_token_id)
        assert (row["labels"][0], row["labels"][-1]) == (-100, -100)
    assert made.summary["tokens"] == sum(row["length"] for row in table)
    assert made.summary["tokens_by_class"]["template"] == 2 * len(table)
    assert made.summary["learnt_tokens"] == made.summary["tokens"] - 2 * len(table)


def test_a_short_document_is_what_the_tokenizer_itself_makes_of_it(tmp_path, text, tokenizers):
    (tmp_path / "one.txt").write_text("The old cat sees a small bird.\n")
    convert([tmp_path / "one.txt"], tmp_path / "out", TextTokenizer(tokenizers / "encoder"), Options(format="text"))
    reference = AutoTokenizer.from_pretrained(tokenizers / "encoder")
    (row,) = store.read(tmp_path / "out").to_pylist()
    assert row["input_ids"] == reference("The old cat sees a small bird.").input_ids


def test_conversations_without_a_template_are_refused_and_raw_text_is_named(tmp_path, text, tokenizers):
    with pytest.raises(ModelError, match="or convert raw text by --format text"):
        convert([text], tmp_path / "out", TextTokenizer(tokenizers / "decoder"), Options())


@pytest.mark.parametrize("kind", KINDS)
def test_a_trained_tokenizer_is_the_same_each_time_and_gives_texts_back(kind, tmp_path, text, tokenizers):
    new_tokenizer.train([str(text)], kind, 500, tmp_path)
    again, first = ((folder / "tokenizer.json").read_text() for folder in (tmp_path, tokenizers / kind))
    assert json.loads(again) == json.loads(first)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    sentence = "the quickly seen house." if kind == "encoder" else "The quickly seen häuser.\n"
    ids = tokenizer(sentence, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids) == sentence
    assert len(ids) < len(sentence)


def test_rectangles_hold_all_rows_and_no_more_tokens_than_they_may():
    lengths = np.random.default_rng(0).integers(1, 50, 200)
    groups = rectangles(lengths, 100, np.random.default_rng(1).permutation(200))
    assert sorted(row for group in groups for row in group) == list(range(200))
    assert all(max(lengths[group]) * len(group) <= 100 for group in groups)
    assert len(groups) == len(rectangles(lengths, 100))
    padded = sum(max(lengths[group]) * len(group) for group in groups)
    assert padded < 1.1 * lengths.sum()  # rows of like length are together
    with pytest.raises(ValueError, match="does not fit"):
        rectangles(lengths, 20)
