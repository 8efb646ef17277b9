"""Words and their pieces, in three families of tokenizers."""

import numpy as np
import pytest
from small_tokenizers import FAMILIES, byte_level, wordpiece
from tokenizers import Tokenizer

from nlpft.data.labelled.align import aligned, encode_words
from nlpft.data.labelled.encode import frame
from nlpft.data.labelled.prove import entries, unproven

SENTENCES = [
    ["john", "plays", "the", "film", "."],
    ["日", "本", "the", "日本"],
    ["🙂", "👩‍👩‍👧🏽", "x"],
    ["שלום", "a"],
    ["cafe\u0301", "e\u0301e\u0301", "don't", "123"],
    ["a"],
]


def rows(tokenizer, sentences, longest=None):
    """(ids, first) of each sentence, with special tokens."""
    words = encode_words(sentences, tokenizer)
    found = aligned(words, frame(tokenizer), longest)
    cut = list(zip(found.offsets, found.offsets[1:], strict=False))
    return [(found.ids[a:b].tolist(), np.flatnonzero(found.first[a:b]).tolist()) for a, b in cut], found


def served(tokenizer, text):
    """Ids that `tokenizers` itself gives."""
    reference = Tokenizer.from_file(str(tokenizer.folder / "tokenizer.json"))
    return reference.encode(text).ids


@pytest.mark.parametrize("family", FAMILIES)
def test_every_word_has_exactly_one_first_piece(family, tmp_path):
    found, columns = rows(FAMILIES[family](tmp_path), SENTENCES)
    assert [len(first) for _, first in found] == list(map(len, SENTENCES))
    assert columns.words.tolist() == list(map(len, SENTENCES))
    assert not columns.lost.any()


@pytest.mark.parametrize("family", FAMILIES)
def test_pieces_are_proven_to_spell_their_words(family, tmp_path):
    tokenizer = FAMILIES[family](tmp_path)
    words = encode_words(SENTENCES, tokenizer)
    assert unproven(words.pieces, words.texts, tokenizer) == {}
    if family == "byte_level":  # and the proof notices other pieces
        other = words.pieces.ids.copy()
        other[0] += 1
        assert unproven(type(words.pieces)(other, words.pieces.lengths), words.texts, tokenizer) == {
            0: "ids do not decode to the text"
        }


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_are_those_of_the_running_text(family, tmp_path):
    tokenizer = FAMILIES[family](tmp_path)
    sentences = [["the", "film", "good"], ["a", "good", "film"]]
    end = tokenizer.special.get(tokenizer.token("eos_token"))
    for words, (ids, _) in zip(sentences, rows(tokenizer, sentences)[0], strict=True):
        assert ids == served(tokenizer, " ".join(words)) + ([] if end is None else [end])


def test_characters_of_scripts_without_blanks_get_none(tmp_path):
    tokenizer = byte_level(tmp_path)
    assert encode_words([["日", "本", "the", "a"]], tokenizer).texts == ["日", "本", "the", " a"]


def test_a_vanished_word_becomes_the_unknown_token_and_keeps_its_place(tmp_path):
    tokenizer = wordpiece(tmp_path)
    words = encode_words([["a", "\u200b", "b"]], tokenizer)
    assert [words.texts[i] for i in np.flatnonzero(words.vanished)] == [" \u200b"]
    ((ids, first),) = rows(tokenizer, [["a", "\u200b", "b"]])[0]
    assert ([tokenizer.token_text(i) for i in ids], first) == (["[CLS]", "a", "[UNK]", "b", "[SEP]"], [1, 2, 3])


def test_what_does_not_fit_goes_by_whole_words(tmp_path):
    tokenizer = wordpiece(tmp_path)
    sentence = ["the", "playing", "plays", "film"]  # 1 + 2 + 2 + 1 pieces
    ((ids, first),) = rows(tokenizer, [sentence], longest=6)[0]
    assert [tokenizer.token_text(i) for i in ids] == ["[CLS]", "the", "play", "##ing", "[SEP]"]
    found = rows(tokenizer, [sentence], longest=6)[1]
    assert (first, found.words.tolist(), found.lost.tolist()) == ([1, 2], [2], [3])


def test_a_first_word_that_is_too_long_keeps_its_first_pieces(tmp_path):
    found, columns = rows(wordpiece(tmp_path), [["x123", "a"], ["a", "b"]], longest=4)
    assert [len(ids) for ids, _ in found] == [4, 4]
    assert (columns.words.tolist(), columns.lost.tolist()) == ([1, 2], [3, 0])


def test_the_entries_of_a_vocabulary_are_spelt_without_marks(tmp_path):
    tokenizer = wordpiece(tmp_path)
    assert entries(tokenizer)[tokenizer.encode(["playing"]).ids.tolist()[1]].as_py() == b"ing"
