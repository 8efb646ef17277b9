"""Duplicates: what is left out, of what, and what is not."""

import multiprocessing
import random

import numpy as np
import pytest

from nlpft.data.select import duplicates
from nlpft.data.select.duplicates import (
    NEAR,
    SAME,
    SHINGLE,
    Duplicate,
    bands,
    find,
    jaccard,
    shingles_of,
    signatures,
    sketches,
    texts_of,
)
from nlpft.data.select.words import pieces
from nlpft.types import Conversation, Message

DRAW = random.Random(0)
VOCABULARY = [f"w{n}" for n in range(5_000)]


@pytest.fixture(autouse=True)
def _same_texts_in_every_order_of_tests():
    DRAW.seed(1)


def words(count: int) -> list[str]:
    return DRAW.choices(VOCABULARY, k=count)


def near(texts: list[str], threshold: float = 0.8, exact: bool = True) -> list[Duplicate]:
    rows = [[text] for text in texts]
    read = (lambda row: shingles_of(rows[row])) if exact else None
    return find(range(len(rows)), signatures(rows), threshold, read)


def test_equal_keys_are_duplicates_of_the_first():
    assert find([7, 2**64 - 1, 7, 7 + 2**32, 2**64 - 1, 7]) == [(2, 0, SAME), (4, 1, SAME), (5, 0, SAME)]


def test_no_rows_have_no_duplicates():
    assert find([]) == []
    assert find([], signatures([])) == []


def edited(text: list[str], edits: int) -> list[str]:
    """`text` with words replaced at even distances: each replaces SHINGLE shingles."""
    step = len(text) // (edits + 1)
    return [f"new{at}" if at % step == 0 and 0 < at // step <= edits else word for at, word in enumerate(text)]


@pytest.mark.parametrize("exact", [True, False])
def test_a_row_with_a_few_other_words_is_a_near_duplicate_and_one_with_many_is_not(exact):
    text = words(400)
    few, many = edited(text, 4), edited(text, 14)  # similarities of 0.90 and 0.70
    rows = [" ".join(words(300)), " ".join(text), " ".join(few), " ".join(words(50)), " ".join(many)]
    assert near(rows, exact=exact) == [(2, 1, NEAR)]


def test_case_and_punctuation_make_no_difference():
    text = words(30)
    assert near([" ".join(text), ", ".join(text).upper() + "!"]) == [(1, 0, NEAR)]


def test_every_row_that_goes_resembles_one_that_stays():
    text = words(200)
    chain = [text]
    for step in range(12):  # each differs a little from the one before it, and the last shares little with the first
        changed = list(chain[-1])
        changed[step * 15 + 3] = f"new{step}"
        chain.append(changed)
    sets = [shingles_of([" ".join(row)]) for row in chain]
    found = near([" ".join(row) for row in chain])
    gone = {duplicate.row for duplicate in found}
    assert found
    assert all(jaccard(sets[d.row], sets[d.of]) >= 0.8 and d.of not in gone for d in found)
    staying = [row for row in range(len(chain)) if row not in gone]
    assert len(staying) > 1
    assert all(jaccard(sets[a], sets[b]) < 0.8 for a in staying for b in staying if a < b)


def test_similarity_itself_decides_not_its_estimate(monkeypatch):
    monkeypatch.setattr(duplicates, "DOUBT", 1.0)
    rows = [words(120) for _ in range(15)]
    texts = [" ".join(row) for row in rows] + [" ".join(edited(row, 1 + number % 8)) for number, row in enumerate(rows)]
    sets = [shingles_of([text]) for text in texts]
    expected = {15 + n for n in range(15) if jaccard(sets[n], sets[15 + n]) >= 0.7}
    assert 0 < len(expected) < 15
    assert {duplicate.row for duplicate in near(texts, 0.7)} == expected


def test_equal_rows_and_near_ones_are_told_apart():
    text = " ".join(words(30) * 2)
    rows = [[text], ["other words"], [text], [text + "!"], ["more words"]]
    asked = []
    sketch = sketches(rows)

    def shingles(row: int) -> np.ndarray:
        asked.append(row)
        return sketch.shingles[sketch.edges[row] : sketch.edges[row + 1]]

    found = find([1, 2, 1, 3, 4], sketch.signatures, 0.8, shingles)
    assert found == [(2, 0, SAME), (3, 0, NEAR)]
    assert sorted(asked) == [0, 3]


@pytest.mark.parametrize("pair", [("yes", "no"), ("one two three", "one two four"), ("🙂", "🙃"), ("", "?")])
def test_short_rows_are_alike_only_as_a_whole(pair):
    assert near(list(pair)) == []
    assert near([pair[0], pair[0]]) == [(1, 0, NEAR)]


def test_a_shared_system_turn_makes_no_duplicates():
    system = Message("system", " ".join(words(500)))
    rows = [texts_of(Conversation((system, Message("user", " ".join(words(30)))))) for _ in range(2)]
    assert find([0, 1], signatures(rows)) == []
    assert texts_of(Conversation((), text="raw")) == ["raw"]


def test_signatures_do_not_depend_on_how_rows_are_grouped(monkeypatch):
    rows = [[" ".join(words(size)), "answer"] for size in (0, 3, 700, 20, 2_000)]
    together = signatures(rows)
    monkeypatch.setattr(duplicates, "pieces", lambda rows: [(n, [row]) for n, row in enumerate(rows)])
    assert together.shape == (5, duplicates.SLOTS)
    assert np.array_equal(together, signatures(rows))


def test_sketches_hold_the_shingles_of_each_row(monkeypatch):
    rows = [[" ".join(words(size)), "answer " * 9] for size in (0, 3, 700, 20)] + [["?"], ["a b"]]
    monkeypatch.setattr(duplicates, "pieces", lambda rows: pieces(rows, size=60))
    found = sketches(rows)
    assert np.array_equal(found.signatures, signatures(rows))
    for row, start, end in zip(rows, found.edges, found.edges[1:], strict=False):
        assert np.array_equal(np.unique(found.shingles[start:end]), shingles_of(row))
    assert found.edges[-1] == len(found.shingles)


def test_what_a_row_repeats_does_not_make_it_more_similar():
    text = words(60)
    rows = [[" ".join(text * 3)], [" ".join(edited(text, 2) * 3)]]  # a similarity of 0.71
    found, asked = sketches(rows), []

    def shingles(row: int) -> np.ndarray:
        asked.append(row)
        return found.shingles[found.edges[row] : found.edges[row + 1]]

    assert find([1, 2], found.signatures, 0.8, shingles) == []
    assert sorted(asked) == [0, 1]


def test_signatures_estimate_the_similarity():
    errors = []
    for edits in range(1, 25):
        text = words(500)
        pair = [[" ".join(text)], [" ".join(edited(text, edits))]]
        one, other = signatures(pair)
        errors.append(float((one == other).mean()) - jaccard(shingles_of(pair[0]), shingles_of(pair[1])))
    assert abs(np.mean(errors)) < 0.025
    assert np.abs(errors).max() < 0.15


def test_jaccard_counts_shingles():
    one, other = shingles_of(["a b c d e f g"]), shingles_of(["a b c d e f x"])
    assert len(one) == 7 - SHINGLE + 1
    assert jaccard(one, other) == 2 / 4


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1])
def test_bands_are_the_widest_that_miss_few_pairs_at_the_threshold(threshold):
    number, width = bands(threshold)
    wider = min(width + 1, 16)
    assert number * width <= duplicates.SLOTS < (number + 1) * width
    assert (1 - threshold**width) ** number <= 0.01
    assert wider == width or (1 - threshold**wider) ** (duplicates.SLOTS // wider) > 0.01


def test_a_form_filled_in_many_times_does_not_compare_all_with_all(monkeypatch):
    draw = np.random.default_rng(0)
    form = draw.integers(0, 1 << 32, duplicates.SLOTS, np.uint32)
    other = draw.integers(0, 1 << 32, (1_000, duplicates.SLOTS), np.uint32)
    rows = np.where(draw.random(other.shape) < 0.75, form, other)
    most = []
    compare = duplicates._first_similar
    monkeypatch.setattr(duplicates, "CROWD", 3)
    monkeypatch.setattr(
        duplicates, "_first_similar", lambda row, others, *more: most.append(len(others)) or compare(row, others, *more)
    )
    find(range(1_000), rows, 0.8)
    assert 10 < max(most) <= 3 * bands(0.8)[0]


def test_a_worker_can_be_forked_after_signatures():
    many = [[" ".join(words(20))] for _ in range(600)]  # as many as rensa would spread over threads
    here = signatures(many)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        there = pool.apply_async(signatures, (many,)).get(timeout=30)
    assert np.array_equal(here, there)
