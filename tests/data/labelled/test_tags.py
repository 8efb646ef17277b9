"""Schemes of tags are told and become BIO."""

import pytest

from nlpft.data.labelled.tags import NO_BEGIN, NO_END, ids, names, scheme, to_bio
from nlpft.errors import DataError, RowRejected

IOB1 = [["I-ORG", "O", "I-PER", "I-PER", "O"], ["I-LOC", "B-LOC", "I-LOC"]]
BIO = [["B-ORG", "O", "B-PER", "I-PER", "O"], ["B-LOC", "B-LOC", "I-LOC"]]
BIOES = [["S-ORG", "O", "B-PER", "E-PER", "O"], ["S-LOC", "B-LOC", "E-LOC"]]
BILOU = [["U-ORG", "O", "B-PER", "L-PER", "O"], ["U-LOC", "B-LOC", "L-LOC"]]


@pytest.mark.parametrize(("rows", "found"), [(IOB1, "iob1"), (BIO, "bio"), (BIOES, "bioes"), (BILOU, "bioes")])
def test_equal_spans_in_every_scheme_become_the_same_tags(rows, found):
    assert scheme(rows) == found
    assert [to_bio(row, found) for row in rows] == [(tuple(row), ()) for row in BIO]


def test_spans_without_any_b_are_iob1():
    assert scheme([["I-PER", "I-PER", "O", "I-LOC"]]) == "iob1"


def test_one_needless_b_makes_it_bio_and_an_i_without_b_a_repair():
    rows = [["I-PER", "I-PER", "O"], ["O", "B-PER", "O"]]
    assert scheme(rows) == "bio"
    assert to_bio(rows[0], "bio") == (("B-PER", "I-PER", "O"), (NO_BEGIN,))
    assert to_bio(["B-PER", "I-LOC"], "bio") == (("B-PER", "B-LOC"), (NO_BEGIN,))


def test_a_span_without_its_end_is_a_repair():
    assert to_bio(["B-PER", "I-PER", "O"], "bioes") == (("B-PER", "I-PER", "O"), (NO_END,))
    assert to_bio(["O", "B-PER"], "bioes") == (("O", "B-PER"), (NO_END,))


def test_types_may_hold_hyphens():
    assert to_bio(["S-creative-work", "O"], "bioes")[0] == ("B-creative-work", "O")
    assert names([["B-creative-work", "O"]], "bio", "f") == ("O", "B-creative-work", "I-creative-work")


def test_parts_of_speech_stay_as_they_are():
    rows = [["NN", "VB", "O", "NN"], ["DT", "NN"]]
    assert scheme(rows) == "plain"
    assert to_bio(rows[0], "plain") == (("NN", "VB", "O", "NN"), ())
    assert names(rows, "plain", "f") == ("O", "DT", "NN", "VB")


def test_both_tags_of_a_type_are_known_even_if_training_has_one():
    found = {tag: i for i, tag in enumerate(names([["B-PER", "O"]], "bio", "f"))}
    assert ids(["B-PER", "I-PER", "O"], found) == [1, 2, 0]
    with pytest.raises(RowRejected, match="unseen in training: B-LOC"):
        ids(["B-LOC"], found)


def test_a_file_without_spans_is_refused():
    with pytest.raises(DataError, match=r"f\.txt: every word has the tag O"):
        names([["O", "O"]], "bio", "f.txt")
