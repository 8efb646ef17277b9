"""Texts and pairs within special tokens."""

import numpy as np
import pytest
from small_tokenizers import FAMILIES, byte_level, unigram, wordpiece
from tokenizers import Tokenizer

from nlpft.data.labelled.encode import at_start, encode, frame, framed, kept, limit
from nlpft.data.labelled.prove import unproven
from nlpft.errors import ConfigError

TEXTS = ["the film", " good film", "[SEP] </s> <|im_end|>", "日本 🙂 שלום", "cafe\u0301", "a\tb\n\nc", "."]


def rows(tokenizer, texts, pairs=None, longest=None):
    found = framed(
        encode(texts, tokenizer),
        encode(pairs, tokenizer) if pairs else None,
        frame(tokenizer, pairs is not None),
        longest,
    )
    return [found.ids[a:b].tolist() for a, b in zip(found.offsets, found.offsets[1:], strict=False)], found


def reference(tokenizer):
    """`tokenizers` itself, which takes special tokens in a text for text."""
    made = Tokenizer.from_file(str(tokenizer.folder / "tokenizer.json"))
    made.encode_special_tokens = True
    return made


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_what_the_tokenizer_itself_gives(family, tmp_path):
    tokenizer = FAMILIES[family](tmp_path)
    end = [] if family == "wordpiece" else [tokenizer.special[tokenizer.token("eos_token")]]
    assert rows(tokenizer, TEXTS)[0] == [reference(tokenizer).encode(text).ids + end for text in TEXTS]


def test_pairs_are_what_the_tokenizer_itself_gives_and_begin_where_its_types_do(tmp_path):
    tokenizer = wordpiece(tmp_path)
    found, columns = rows(tokenizer, TEXTS, TEXTS[::-1])
    expected = [reference(tokenizer).encode(a, b) for a, b in zip(TEXTS, TEXTS[::-1], strict=True)]
    assert found == [row.ids for row in expected]
    assert columns.pair_start.tolist() == [row.type_ids.index(1) for row in expected]


def test_a_line_break_parts_two_texts_where_the_template_puts_nothing(tmp_path):
    tokenizer = byte_level(tmp_path)
    found, columns = rows(tokenizer, ["you"], ["word"])
    assert tokenizer.decode(np.array(found[0])) == "you\nword<|im_end|>"
    assert tokenizer.decode(np.array(found[0][columns.pair_start[0] :])) == "word<|im_end|>"


def test_a_template_that_ends_a_row_is_left_as_it_is(tmp_path):
    tokenizer = wordpiece(tmp_path)
    tokenizer.settings["eos_token"] = "[MASK]"
    assert [tokenizer.token_text(i) for i in rows(tokenizer, ["a"])[0][0]] == ["[CLS]", "a", "[SEP]"]


def test_the_proof_finds_a_lost_character(tmp_path):
    tokenizer = unigram(tmp_path)
    texts = ["the film", "good"]
    assert unproven(encode(texts, tokenizer), at_start(texts, tokenizer), tokenizer) == {}
    assert set(unproven(encode(texts, tokenizer), ["the film", "goods"], tokenizer)) == {1}


def test_a_text_with_an_unknown_token_is_not_called_unproven(tmp_path):
    tokenizer = wordpiece(tmp_path)
    assert unproven(encode(["the zzz"], tokenizer), ["the zzz"], tokenizer) == {}


@pytest.mark.parametrize(
    ("first", "second", "room", "left"), [(5, 3, 8, (5, 3)), (9, 2, 8, (6, 2)), (2, 9, 8, (2, 6)), (9, 9, 7, (4, 3))]
)
def test_the_longer_text_of_a_pair_is_cut_first(first, second, room, left):
    found = kept(np.array([first]), np.array([second]), room)
    assert (int(found[0][0]), int(found[1][0])) == left


def test_a_long_text_loses_its_end_and_keeps_its_special_tokens(tmp_path):
    tokenizer = wordpiece(tmp_path)
    found, columns = rows(tokenizer, ["a b c d e", "a"], longest=5)
    assert [tokenizer.token_text(i) for i in found[0]] == ["[CLS]", "a", "b", "c", "[SEP]"]
    assert columns.lost.tolist() == [2, 0]


def test_a_length_that_the_model_cannot_see_or_that_leaves_no_room_is_refused(tmp_path):
    tokenizer = wordpiece(tmp_path, context=32)
    assert (limit(tokenizer, None), limit(tokenizer, 16)) == (32, 16)
    with pytest.raises(ConfigError, match="max_length 33: the model sees 32 tokens"):
        limit(tokenizer, 33)
    with pytest.raises(ConfigError, match="no room for a text beside 2 special tokens"):
        rows(tokenizer, ["a"], longest=2)
