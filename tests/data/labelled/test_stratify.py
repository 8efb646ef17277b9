"""Splits and folds: every label in its proportion, equal texts together."""

from collections import Counter

import numpy as np
import pytest

from nlpft.data.labelled.stratify import assign, bins, folds
from nlpft.errors import DataError

KEYS = list(range(1, 101))
RARE = [("rare",) if key % 10 == 0 else ("often",) for key in KEYS]  # 10 and 90


def counts(parts, labels):
    return [
        Counter(label for part, own in zip(parts, labels, strict=True) for label in own if part == i)
        for i in range(max(parts) + 1)
    ]


def test_every_label_has_the_same_proportion_in_each_part():
    assert counts(assign(KEYS, RARE, [0.8, 0.2], 0), RARE) == [{"often": 72, "rare": 8}, {"often": 18, "rare": 2}]


def test_folds_have_equally_many_of_each_label():
    assert counts(folds(KEYS, RARE, 5), RARE) == [{"often": 18, "rare": 2}] * 5


def test_equal_keys_share_a_part():
    keys = [key // 4 for key in KEYS]
    parts = assign(keys, RARE, [0.5, 0.5], 1)
    assert all(len({parts[i] for i in range(100) if keys[i] == key}) == 1 for key in set(keys))
    assert 40 <= int((parts == 0).sum()) <= 60


@pytest.mark.parametrize("seed", range(5))
def test_large_groups_are_placed_first_so_that_small_ones_level_the_parts(seed):
    keys = [key if key > 30 else key % 2 for key in KEYS]  # two groups of 15, and 70 single rows
    assert int((assign(keys, [("a",)] * 100, [0.5, 0.5], seed) == 0).sum()) == 50


def test_the_order_of_the_rows_changes_nothing_and_the_seed_does():
    parts = assign(KEYS, RARE, [0.7, 0.3], 3)
    assert np.array_equal(assign(KEYS[::-1], RARE[::-1], [0.7, 0.3], 3), parts[::-1])
    assert not np.array_equal(assign(KEYS, RARE, [0.7, 0.3], 4), parts)


def test_rows_with_several_labels_spread_each_of_them():
    labels = [tuple(name for name, every in (("a", 2), ("b", 5), ("c", 10)) if key % every == 0) for key in KEYS]
    for found in counts(folds(KEYS, labels, 5), labels):
        assert found == {"a": 10, "b": 4, "c": 2}


def test_rows_without_labels_fill_the_parts():
    assert Counter(assign(KEYS, [()] * 100, [0.9, 0.1], 0).tolist()) == {0: 90, 1: 10}


def test_signed_keys_are_those_of_the_tables():
    signed = [key - 2**63 for key in KEYS]
    assert np.array_equal(
        assign(signed, RARE, [0.5, 0.5], 0), assign([key + 2**63 for key in KEYS], RARE, [0.5, 0.5], 0)
    )


def test_targets_are_spread_by_quantile():
    values = [key**3 for key in KEYS]
    assert set(Counter(bins(values)).values()) == {10}
    parts = folds(KEYS, bins(values), 2)
    assert [
        int(sum(value > 50**3 for value, part in zip(values, parts, strict=True) if part == i)) for i in (0, 1)
    ] == [25, 25]


def test_more_folds_than_texts_are_refused():
    with pytest.raises(DataError, match="5 folds of 1 different texts"):
        folds([7] * 10, RARE[:10], 5)
