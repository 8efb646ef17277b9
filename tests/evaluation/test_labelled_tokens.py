"""Labelled rows on the page of a run: each with its label, or with the spans that its tags make, word pieces included."""

import json

import pytest
import tiny_heads
from run_folders import Page, make_bare

from nlpft.data.tokenizer import TextTokenizer
from nlpft.evaluation.report import labelled_tokens, write
from nlpft.types import IGNORE

NAMES = ["O", "B-place", "I-place", "B-person"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_heads.save_bert(tmp_path_factory.mktemp("bert"))


def run_on(tmp_path, data, bert):
    """A run of a head that was trained on `data`."""
    run = make_bare(tmp_path / "run")
    (run / "config.yaml").write_text("head:\n  lr_factor: 10.0\n")
    facts = json.loads((data / "nlpft.json").read_text())
    (run / "data.json").write_text(json.dumps({"train": {"folder": str(data), **facts}}))
    (run / "model").symlink_to(bert)
    return run


def shown(tmp_path, data, bert):
    run = run_on(tmp_path, data, bert)
    page = Page(write.write_report(write.read([run]), run / "report.html").read_text())
    assert (page.crossed, page.open) == ([], [])
    return labelled_tokens.rows(write.read([run])[0])[0], page.text


def test_texts_are_shown_with_their_labels(tmp_path, bert):
    rows, text = shown(tmp_path, tiny_heads.classified(tmp_path, bert) / "train", bert)
    lines = [line.split("\t") for line in (tmp_path / "train.tsv").read_text().splitlines()[1:4]]
    for row, (words, label) in zip(rows, lines, strict=True):
        assert (row.label, row.tokens) == (label, len(words.split()) + 2)
        assert [p.piece.text.strip() for p in row.parts] == ["[CLS]", *words.split(), "[SEP]"]
        assert f"{row.tokens} tokens {label} [CLS]" in text
    assert "in a span" not in text
    assert "None to show" not in text


def test_tags_are_shown_as_spans_with_their_type(tmp_path, bert):
    rows, text = shown(tmp_path, tiny_heads.tagged(tmp_path, bert) / "train", bert)
    words = {"paris": "place", "rome": "place", "anna": "person"}
    for row in rows:
        for part in row.parts:
            assert part.ends == words.get(part.piece.text.strip(), "")
            assert part.piece.learnt == bool(part.ends)
    assert "in a span" in text


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ([IGNORE, 1, 2, 0, IGNORE], ["", "", "place", "", ""]),  # one span of two words
        ([IGNORE, 1, 1, 0, IGNORE], ["", "place", "place", "", ""]),  # two spans side by side
        ([IGNORE, 1, IGNORE, 3, IGNORE], ["", "", "place", "person", ""]),  # a word of two pieces
        ([IGNORE, 0, IGNORE, 1, IGNORE], ["", "", "", "place", ""]),
    ],
)
def test_a_span_ends_where_another_begins_and_goes_on_within_a_word(labels, wanted, bert):
    tokenizer = TextTokenizer(bert)
    row = {"input_ids": [2, 12, 13, 14, 3], "labels": labels, "source": "a:1", "notes": ""}
    found = labelled_tokens._shown(row, "tagging", NAMES, tokenizer)
    assert [part.ends for part in found.parts] == wanted


def test_of_a_long_row_the_beginning_is_shown(bert):
    row = {"input_ids": [2] + [5] * 900 + [3], "target": 1, "source": "a:1", "notes": ""}
    found = labelled_tokens._shown(row, "single_label_classification", ["a", "b"], TextTokenizer(bert))
    assert (found.tokens, len(found.parts), found.label) == (902, labelled_tokens.HEAD, "b")


def test_why_there_is_none_is_said(tmp_path, bert):
    data = tiny_heads.classified(tmp_path, bert) / "train"
    run = run_on(tmp_path, data, bert)
    assert data.rename(tmp_path / "elsewhere")
    text = Page(write.write_report(write.read([run]), run / "report.html").read_text()).text
    assert "None to show: " in text
    assert "out/train" in text
