"""Batches: where rows begin, what is learnt, and shapes that do not change."""

import itertools

import numpy as np
import pyarrow as pa
import pytest

from nlpft.data.collate import TARGETS, Columns, collate, padding_bounds
from nlpft.data.columns import lists
from nlpft.types import IGNORE

LENGTHS = (3, 5, 2)
IDS = np.arange(10, 20)
LABELS = np.array([10, 11, 12, IGNORE, 14, 15, IGNORE, 17, 18, 19])


@pytest.fixture(scope="module")
def columns():
    offsets = np.array([0, 3, 8, 10])
    return Columns(pa.table({"input_ids": lists(IDS, offsets), "labels": lists(LABELS, offsets)}))


def test_a_batch_says_where_its_rows_begin(columns):
    batch = collate(columns, [0, 1, 2])
    assert batch["cu_seqlens"].tolist() == [0, 3, 8, 10]
    assert batch["position_ids"][0].tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 0, 1]
    assert int(batch["max_seqlen"]) == 5


def test_targets_are_the_learnt_tokens_but_no_rows_first(columns):
    batch = collate(columns, [0, 1, 2])
    assert batch["positions"].tolist() == [0, 1, 3, 4, 6, 8]
    assert batch["targets"].tolist() == [11, 12, 14, 15, 17, 19]
    starts = batch["cu_seqlens"][:-1]
    assert not set((batch["positions"] + 1).tolist()) & set(starts.tolist())


def test_static_shapes_add_no_target(columns):
    plain, padded = collate(columns, [0, 1, 2]), collate(columns, [0, 1, 2], 32, longest=8)
    assert padded["input_ids"].shape == (1, 32)
    assert len(padded["targets"]) == TARGETS == len(padded["positions"])
    learnt = padded["targets"] != IGNORE
    assert padded["targets"][learnt].tolist() == plain["targets"].tolist()
    assert padded["positions"][learnt].tolist() == plain["positions"].tolist()


def test_padding_comes_in_rows_that_are_no_longer_than_the_longest(columns):
    batch = collate(columns, [0, 1, 2], 32, longest=8)
    assert batch["cu_seqlens"].tolist() == [0, 3, 8, 10, 18, 26, 32]
    assert batch["position_ids"][0, 10:].tolist() == [*range(8), *range(8), *range(6)]
    assert int(batch["max_seqlen"]) == 8


@pytest.mark.parametrize(("filled", "total"), [(5, 5), (5, 6), (5, 13), (5, 14), (0, 24)])
def test_padding_bounds_end_where_the_batch_does(filled, total):
    bounds = [filled, *padding_bounds(filled, total, 8)]
    assert bounds[-1] == total
    assert all(0 < b - a <= 8 for a, b in itertools.pairwise(bounds))


def test_no_rows_make_a_batch_without_targets(columns):
    batch = collate(columns, [])
    assert batch["input_ids"].tolist() == [[0]]
    assert len(batch["targets"]) == 0
    assert batch["cu_seqlens"].tolist() == [0, 1]
