"""Word hashes and n-grams equal those of a plain reference in Python."""

import random
import re

import numpy as np
import pytest

from nlpft.data.select import words as module
from nlpft.data.select.words import ngrams, pieces, whole_texts, word_hashes

TEXTS = [
    "The cat, the CAT -- and\nthe dog's 3.5 bones!",
    "",
    "...",
    "short",
    "exactlyeight eightbyte9 sixteenletterss x",
    "a" * 32 + " " + "b" * 33 + " " + "c" * 100,
    "Ein Maß für Ölfässer; ΑΒΓ αβγ, naïve.",
]


def same_classes(hashes: np.ndarray, names: list) -> bool:
    """Whether two hashes are equal exactly where their names are."""
    pairs = set(zip(hashes.tolist(), names, strict=True))
    return len(pairs) == len(set(names)) == len(np.unique(hashes))


def reference(text: str) -> list[str]:
    """Words of up to 32 ASCII characters, longer ones in several."""
    return [run[at : at + 32] for run in re.findall("[a-z0-9]+", text.lower()) for at in range(0, len(run), 32)]


def of(text: str) -> list[int]:
    return word_hashes([text])[0].tolist()


def random_texts(count: int) -> list[str]:
    draw = random.Random(0)
    parts = ["a", "b", "Ab", "word", "longerthaneight", "12", ", ", " ", "\n\n", "-", "q" * 40, "z" * 31]
    return ["".join(draw.choices(parts, k=draw.randrange(60))) for _ in range(count)]


@pytest.mark.parametrize("block", [16, 1 << 20])
def test_words_are_those_of_the_reference(block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    texts = random_texts(300) + TEXTS[:-1]
    hashes, edges = word_hashes(texts)
    expected = [reference(text) for text in texts]
    assert np.diff(edges).tolist() == list(map(len, expected))
    assert same_classes(hashes, [word for row in expected for word in row])


def test_case_and_punctuation_do_not_count():
    assert of("Hello, world! It's 5.") == of("hello WORLD\tit s “5”")
    assert of("hello world") != of("helloworld")


def test_other_scripts_have_words():
    assert of("Ölfässer, ΑΒΓ") == of("ölfässer — αβγ")
    assert of("cafe\u0301") == of("café") != of("cafe")
    assert len(of("क्या हाल है")) == 3
    assert of("fullwidth １２") == of("fullwidth 12")


def test_a_character_is_a_word_where_no_blanks_are_written():
    assert len(of("今天天气很好。")) == 6
    assert of("天气") == of("天, 气")


def test_half_a_surrogate_pair_breaks_nothing():
    assert len(of("one \ud800 two")) == 2


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 13])
def test_ngrams_are_those_of_the_reference(n):
    texts = random_texts(100) + TEXTS[:-1]
    hashes, edges = ngrams(*word_hashes(texts), n)
    expected = [[tuple(row[i : i + n]) for i in range(len(row) - n + 1)] for row in map(reference, texts)]
    assert np.diff(edges).tolist() == list(map(len, expected))
    assert same_classes(hashes, [gram for row in expected for gram in row])


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7, 8, 12, 13])
def test_a_text_of_n_words_is_its_one_ngram_and_two_neighbours_exchanged_make_another(n):
    words = [f"w{place}" for place in range(n)]
    pairs = range(n - 1)
    texts = [words, *([*words[:at], words[at + 1], words[at], *words[at + 2 :]] for at in pairs)]
    found = word_hashes([" ".join(text) for text in texts])
    grams = ngrams(*found, n)[0]
    assert len(np.unique(grams)) == n
    assert grams.tolist() == whole_texts(*found, range(n, n + 1))[0].tolist()


def test_a_whole_text_is_the_ngram_of_its_length():
    texts = ["one two three", "one two", "", "one two three four five"]
    hashes, which = whole_texts(*word_hashes(texts), range(1, 4))
    found = dict(zip(which.tolist(), hashes.tolist(), strict=True))
    assert found == {
        0: int(ngrams(*word_hashes([texts[0]]), 3)[0][0]),
        1: int(ngrams(*word_hashes([texts[1]]), 2)[0][0]),
    }


def test_pieces_are_the_rows_again_and_know_their_numbers():
    rows = [["a" * size] for size in (5, 1, 30, 2, 2)]
    found = list(pieces(rows, size=8))
    assert [row for _, piece in found for row in piece] == rows
    assert [start for start, _ in found] == [0, 3]


def test_no_text_has_no_words():
    hashes, edges = word_hashes([])
    assert (len(hashes), edges.tolist()) == (0, [0])
    assert len(ngrams(hashes, edges, 13)[0]) == 0
