"""Draws of rows."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from nlpft.data.labelled.sampling import few_shot, keys, oversampled, strata, subset, undersampled
from nlpft.errors import DataError

KEYS = list(range(1, 61))
LABELS = [("abc"[key % 3],) for key in KEYS]


def test_a_few_shot_draw_has_that_many_of_each_label():
    taken = few_shot(KEYS, LABELS, 4)
    assert Counter(LABELS[i] for i in taken) == {("a",): 4, ("b",): 4, ("c",): 4}
    assert sorted(taken.tolist()) == taken.tolist()


def test_a_larger_draw_holds_a_smaller_one_and_the_seed_draws_others():
    small, large = (set(few_shot(KEYS, LABELS, count).tolist()) for count in (3, 8))
    assert small < large
    assert small != set(few_shot(KEYS, LABELS, 3, seed=1).tolist())


def test_a_text_is_drawn_once():
    taken = few_shot([key // 2 for key in KEYS], LABELS, 5)
    assert len({KEYS[i] // 2 for i in taken}) == len(taken)
    assert Counter(LABELS[i] for i in taken) == {("a",): 5, ("b",): 5, ("c",): 5}


def test_a_row_with_several_labels_counts_for_each():
    labels = [("a", "b")] * 5 + [("a",)] * 5
    assert len(few_shot(KEYS[:10], labels, 5)) == 5


def test_a_label_with_too_few_rows_is_named():
    with pytest.raises(DataError, match="label 'a' has 20 different texts, fewer than 21"):
        few_shot(KEYS, LABELS, 21)


def test_a_subset_keeps_the_proportions():
    assert Counter(LABELS[i] for i in subset(KEYS, LABELS, 12)) == {("a",): 4, ("b",): 4, ("c",): 4}
    assert subset(KEYS, LABELS, 100).tolist() == list(range(60))


TARGETS = np.array([0] * 10 + [1] * 4 + [2] * 3)


def test_oversampling_keeps_every_row_and_brings_classes_up():
    taken = oversampled(TARGETS)
    assert Counter(TARGETS[taken].tolist()) == {0: 10, 1: 10, 2: 10}
    repeats = Counter(taken.tolist())
    assert len(repeats) == 17
    assert {repeats[i] for i in range(10, 14)} == {2, 3}
    assert Counter(TARGETS[oversampled(TARGETS, share=0.5)].tolist()) == {0: 10, 1: 5, 2: 5}


def test_undersampling_takes_no_row_twice():
    taken = undersampled(TARGETS, ratio=2)
    assert Counter(TARGETS[taken].tolist()) == {0: 6, 1: 4, 2: 3}
    assert len(set(taken.tolist())) == len(taken)


def test_what_is_spread_is_read_from_the_columns():
    table = pa.table({"target": pa.array([1, 0], pa.int32()), "key": [5, -6]})
    assert strata(table, "single_label_classification") == [(1,), (0,)]
    assert keys(table) == [5, -6]
    bits = pa.table({"target": pa.array([[0, 1, 1], [0, 0, 0]], pa.list_(pa.float32()))})
    assert strata(bits, "multi_label_classification") == [(1, 2), ()]
    tags = pa.table({"labels": pa.array([[-100, 1, 2, 0, -100], [-100, 0, 3, -100]], pa.list_(pa.int32()))})
    assert strata(tags, "tagging", ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]) == [("PER",), ("LOC",)]
