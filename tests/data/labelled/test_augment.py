"""Edits of words leave spans whole."""

from collections import Counter
from random import Random

import pytest

from nlpft.data.labelled.augment import EDITS, MARKS, Word, cut_mix, edited

PLAIN = [Word(word) for word in ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]]
TAGGED = [
    Word("a", "O"),
    Word("New", "B-LOC"),
    Word("York", "I-LOC"),
    Word("b", "O"),
    Word("c", "O"),
    Word("Ann", "B-PER"),
]


def spans(words):
    """Texts of the spans, each with its type."""
    out, before = [], "O"
    for word in words:
        if word.tag.startswith("B-"):
            out.append([word.tag[2:], word.text])
        elif word.tag.startswith("I-"):
            assert before[2:] == word.tag[2:], "a span goes on that has not begun, or was cut"
            out[-1].append(word.text)
        before = word.tag
    return out


@pytest.mark.parametrize("name", EDITS)
def test_the_same_generator_gives_the_same_words_and_others_do_not(name):
    found = [EDITS[name](PLAIN, 0.3, Random(seed)) for seed in range(20)]
    assert found[0] == EDITS[name](PLAIN, 0.3, Random(0))
    assert len({tuple(words) for words in found}) > 5


@pytest.mark.parametrize("name", ["swap", "delete", "insert"])
def test_spans_stay_whole(name):
    for seed in range(50):
        assert spans(EDITS[name](TAGGED, 0.5, Random(seed))) == [["LOC", "New", "York"], ["PER", "Ann"]]


def test_noise_changes_letters_and_no_tag():
    for seed in range(20):
        assert [word.tag for word in EDITS["noise"](TAGGED, 1.0, Random(seed))] == [word.tag for word in TAGGED]
    assert EDITS["noise"]([Word("ab")], 1.0, Random(0))[0].text in ("b", "aab", "ba")


def test_swapping_keeps_the_words():
    assert Counter(EDITS["swap"](PLAIN, 0.4, Random(2))) == Counter(PLAIN)


def test_deleting_leaves_a_word():
    assert len(EDITS["delete"](PLAIN, 1.0, Random(0))) == 1


def test_inserting_adds_marks_only():
    found = EDITS["insert"](PLAIN, 0.5, Random(1))
    assert [word for word in found if word.text not in MARKS] == PLAIN
    assert len(found) > len(PLAIN)


def test_an_edit_is_one_of_those_named():
    assert {len(edited(PLAIN, ["insert"], 1.0, Random(seed))) for seed in range(5)} == {20}


def test_a_mix_holds_a_run_of_the_other_and_says_how_much_of_the_first_is_left():
    other = [Word(word.text.upper()) for word in PLAIN]
    mixed, share = cut_mix(PLAIN, other, 0.3, Random(4))
    assert (len(mixed), share) == (10, 0.7)
    upper = [i for i, word in enumerate(mixed) if word.text.isupper()]
    assert upper == list(range(upper[0], upper[0] + 3))


def test_a_mix_cuts_no_span():
    for seed in range(50):
        mixed, share = cut_mix(TAGGED, TAGGED[::1], 0.4, Random(seed))
        assert all(len(span) == (3 if span[0] == "LOC" else 2) for span in spans(mixed))
        assert 0 <= share < 1
