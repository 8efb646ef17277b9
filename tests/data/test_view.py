"""Rows as text: whole characters, exact kinds, nothing that steers what shows it."""

import json

import numpy as np
import pyarrow as pa
import pytest

from nlpft.data import view
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ModelError


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    return TextTokenizer(tiny_folder)


def made(tokenizer, text: str, learnt=None) -> view.Row:
    ids = np.array(tokenizer.served(text), np.int32)
    return view.Row("row 1", "", ids, np.zeros(len(ids), bool) if learnt is None else learnt)


TEXT = "<|im_start|>user\nnaïve 🙂👩‍👧 日本 שלום<|im_end|>\n"


@pytest.mark.parametrize("cut", [view.runs, view.tokens])
def test_pieces_join_to_the_text_of_the_row_and_to_its_ids(tokenizer, cut):
    row = made(tokenizer, TEXT)
    pieces = cut(row, tokenizer)
    assert "".join(piece.text for piece in pieces) == TEXT
    assert [token for piece in pieces for token in piece.ids] == row.ids.tolist()
    ends = np.cumsum([len(piece.ids) for piece in pieces]).tolist()
    assert [piece.start for piece in pieces] == [0, *ends[:-1]]


def test_runs_change_where_learnt_or_special_changes_and_only_there(tokenizer):
    ids = tokenizer.served("<|im_start|>ab<|im_end|>")
    row = made(tokenizer, "<|im_start|>ab<|im_end|>", np.array([False, False, True, True]))
    found = [(p.text, p.learnt, p.special) for p in view.runs(row, tokenizer)]
    assert len(ids) == 4
    assert found == [
        ("<|im_start|>", False, True),
        ("a", False, False),
        ("b", True, False),
        ("<|im_end|>", True, True),
    ]


def test_tokens_of_one_character_stay_together_and_others_apart(tokenizer):
    row = made(tokenizer, "a🙂b")
    assert [(p.text, len(p.ids)) for p in view.tokens(row, tokenizer)] == [("a", 1), ("🙂", 4), ("b", 1)]


def test_a_mask_that_cuts_a_character_shows_its_halves_as_bytes(tokenizer):
    row = made(tokenizer, "🙂", np.array([False, False, True, True]))
    assert [(p.text, p.learnt) for p in view.tokens(row, tokenizer)] == [(r"\xf0\x9f", False), (r"\x99\x82", True)]


def test_a_row_without_tokens_has_no_pieces(tokenizer):
    row = made(tokenizer, "")
    assert view.runs(row, tokenizer) == view.tokens(row, tokenizer) == []
    assert view.text_of(row.ids, tokenizer) == ""


@pytest.mark.parametrize("steers", ["\x1b", "\x9b", "\x00", "\r", "\u202e", "\u2066", "\u200b", "\U000e0041", "\ud800"])
def test_what_steers_a_terminal_or_the_direction_is_spelt_out(steers):
    assert view.visible(f"a{steers}b") == f"a{ascii(steers)[1:-1]}b"


@pytest.mark.parametrize("text", ["a\n\tb", "日本\u3000語", "a\u00a0b", "👩\u200d👧", "می\u200cخواهم", "شكر\u064eا"])
def test_ordinary_text_stays_as_it_is(text):
    assert view.visible(text) == text


def test_ids_that_the_tokenizer_lacks_are_refused(tokenizer):
    for token in (-1, 400, 2**31 - 1):
        row = view.Row("chats.json:3", "", np.array([1, token], np.int32), np.zeros(2, bool))
        with pytest.raises(ModelError, match=rf"chats\.json:3: .* no token {token};"):
            view.check(row, tokenizer)


def test_rows_of_other_programs_have_wider_numbers_and_no_place():
    rows = [[1, 2], None]
    wide = pa.table(
        {"input_ids": pa.array(rows, pa.list_(pa.int64())), "labels": pa.array(rows, pa.large_list(pa.int64()))}
    )
    assert view.row(wide, 0).ids.tolist() == [1, 2]
    assert view.row(wide, 0).place == "row 1"
    assert len(view.row(wide, 1).ids) == 0
    mixed = wide.append_column("source", pa.array([7, 8]))
    assert view.row(mixed, 1).place == "row 2"


@pytest.fixture(scope="module")
def metaspace(tmp_path_factory, tiny_folder):
    """A tokenizer whose vocabulary is words with SentencePiece's blank, and keeps no bytes."""
    folder = tmp_path_factory.mktemp("metaspace")
    spec = json.loads((tiny_folder / "tokenizer.json").read_text())
    blank = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    words = {"▁user": 0, "▁asks": 1, ":": 2, "<s>": 3, "<0xF0>": 4, "<0x9F>": 5, "<0x99>": 6, "<0x82>": 7}
    fallback = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, blank]}
    start = {**spec["added_tokens"][0], "id": 3, "content": "<s>", "special": True}
    spec |= {"model": {"type": "WordLevel", "vocab": words, "unk_token": ":"}, "added_tokens": [start]}
    spec |= {"pre_tokenizer": blank, "decoder": fallback, "post_processor": None}
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    return TextTokenizer(folder)


def test_tokens_of_a_sentencepiece_model_keep_their_blanks(metaspace):
    row = view.Row("row 1", "", np.array([0, 1, 2, 1], np.int32), np.array([False, True, False, True]))
    assert [p.text for p in view.runs(row, metaspace)] == ["user", " asks", ":", " asks"]
    assert view.quoted(row, 1, metaspace) == '" asks"'


def test_parts_of_a_character_are_named_where_the_vocabulary_keeps_no_bytes(metaspace):
    row = view.Row("row 1", "", np.array([0, 4, 5, 6, 7, 1], np.int32), np.zeros(6, bool))
    assert [(p.text, len(p.ids)) for p in view.tokens(row, metaspace)] == [("user", 1), ("🙂", 4), (" asks", 1)]
    assert view.quoted(row, 2, metaspace) == "<0x9F>"
    with pytest.raises(ModelError, match="no token 9"):
        view.check(row._replace(ids=np.array([9], np.int32)), metaspace)
