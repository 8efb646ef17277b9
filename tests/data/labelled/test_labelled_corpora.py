"""Real labelled corpora, where NLPFT_CORPORA names their folder: published numbers of rows, labels and spans."""

import os
from pathlib import Path

import pytest
from small_tokenizers import byte_level

from nlpft.data import store
from nlpft.data.labelled.convert import convert
from nlpft.data.labelled.options import LabelOptions

FOLDER = Path(os.environ.get("NLPFT_CORPORA", ""))
TEXTS, TAGS = FOLDER / "classification", FOLDER / "tagging"
WNUT = TAGS / "wnut17" / "CONLL-format" / "data"

pytestmark = pytest.mark.skipif(
    "NLPFT_CORPORA" not in os.environ, reason="set NLPFT_CORPORA to a folder of real corpora (see CONTRIBUTING)"
)


def counts(out, split=""):
    return store.info(out / split)["label_counts"]


@pytest.fixture
def tokenizer(tmp_path):
    return byte_level(tmp_path / "model", context=100_000)


def made(names, out, tokenizer, **options):
    summary = convert([str(name) for name in names], out, tokenizer, LabelOptions(**options)).summary
    assert sum(1 for _ in (out / "rejected.jsonl").open()) == summary["rejected"]
    return summary["rows_read"], summary["kept"] + summary["repaired"]


CORPORA = {
    "stsa.binary.train": ((6920, 6920), {"0": 3310, "1": 3610}),
    "stsa.fine.test": ((2210, 2210), {"0": 279, "1": 633, "2": 389, "3": 510, "4": 399}),
    "TREC.test.all": ((500, 500), {"0": 138, "1": 94, "2": 9, "3": 65, "4": 81, "5": 113}),
    "ag_news_test.csv": ((7600, 7600), {"1": 1900, "2": 1900, "3": 1900, "4": 1900}),
    "sms.tsv": ((5574, 5574), {"ham": 4827, "spam": 747}),
    "amazon_books.jsonl": ((2000, 2000), {"0": 1000, "1": 1000}),
}


@pytest.mark.parametrize("name", CORPORA)
def test_every_text_has_its_label(name, tmp_path, tokenizer):
    found = made([TEXTS / name], tmp_path / "out", tokenizer)
    assert (found, counts(tmp_path / "out")) == CORPORA[name]


def test_a_row_in_latin_1_is_the_only_one_lost_unless_its_encoding_is_named(tmp_path, tokenizer):
    assert made([TEXTS / "TREC.train.all"], tmp_path / "a", tokenizer) == (5452, 5451)
    assert made([TEXTS / "TREC.train.all"], tmp_path / "b", tokenizer, encoding="latin-1") == (5452, 5452)


def test_wnut17_has_the_published_entities(tmp_path, tokenizer):
    names = {"train": "wnut17train.conll", "dev": "emerging.dev.conll", "test": "emerging.test.annotated"}
    files = [f"{split}={WNUT / split / name}" for split, name in names.items()]
    assert made(files, tmp_path / "out", tokenizer) == (5690, 5690)
    begins = [sum(n for tag, n in counts(tmp_path / "out", split).items() if tag.startswith("B-")) for split in names]
    assert begins == [1975, 836, 1079]


def test_snips_has_intents_and_slots(tmp_path, tokenizer):
    assert made([TAGS / "snips"], tmp_path / "slots", tokenizer) == (14484, 14484)
    assert len(store.info(tmp_path / "slots" / "train")["label_names"]) == 1 + 2 * 39
    assert made([TAGS / "snips"], tmp_path / "intents", tokenizer, task="classify") == (14484, 14484)
    assert len(counts(tmp_path / "intents", "test")) == 7
