"""Counts of a dataset are those of its rows, however they are chunked."""

import itertools

import numpy as np
import on_disk
import pyarrow as pa
import pytest
from on_disk import Chat

from nlpft.data import statistics
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import DataError

NOT = -100
IDS = [[1, 2, 3], [], [4], [5, 6, 7, 8, 9], [4], [1, 2, 3], [4], [3, 2, 1]]
LABELS = [[NOT, 2, 3], [], [NOT], [5, NOT, NOT, 8, 9], [4], [1, 2, 3], [4], [3, NOT, 1]]


def table(kind=None, edges=(0, 8)):
    kind = kind or pa.list_(pa.int32())
    pieces = [
        pa.table({"input_ids": pa.array(IDS[a:b], kind), "labels": pa.array(LABELS[a:b], kind)})
        for a, b in itertools.pairwise(edges)
    ]
    return pa.concat_tables(pieces)


@pytest.mark.parametrize("kind", [pa.list_(pa.int32()), pa.list_(pa.int64()), pa.large_list(pa.int32())])
@pytest.mark.parametrize("edges", [(0, 8), (0, 2, 5, 8)])
@pytest.mark.parametrize("batch", [1, 3, 100])
def test_counts_are_those_of_the_rows(kind, edges, batch, monkeypatch):
    monkeypatch.setattr(statistics, "BATCH", batch)
    for first in (0, 1):
        rows = table(kind, edges).slice(first)
        masks = statistics.masks(rows)
        assert masks.lengths.tolist() == [3, 0, 1, 5, 1, 3, 1, 3][first:]
        assert masks.learnt.tolist() == [2, 0, 0, 3, 1, 3, 1, 2][first:]
        assert masks.answers.tolist() == [1, 0, 0, 2, 1, 1, 1, 2][first:]
        contents = statistics.contents(rows)
        ids = list(itertools.chain(*IDS[first:]))
        assert contents.counts.tolist() == [ids.count(i) for i in range(10)]
        same = [[tuple(a) == tuple(b) for a in IDS[first:]] for b in IDS[first:]]
        assert (contents.hashes[:, None] == contents.hashes).tolist() == same


def test_rows_that_are_null_count_as_empty():
    column = pa.array([[1], None, [2, 3]], pa.list_(pa.int32()))
    rows = pa.table({"input_ids": column, "labels": column})
    assert statistics.masks(rows).learnt.tolist() == [1, 0, 2]
    assert len(statistics.contents(rows).hashes) == 3


def test_copies_are_grouped_the_largest_first():
    found = statistics.copies(table(), statistics.contents(table()), 1)
    assert found == (3, [("row 3", "row 5", 1)])
    assert [g.tolist() for g in statistics.alike(statistics.contents(table()).hashes)] == [[2, 4, 6], [0, 5]]


@pytest.mark.parametrize("bad", [-1, 2**31 - 1])
def test_numbers_that_are_no_ids_are_refused(bad):
    column = pa.array([[1, bad]], pa.list_(pa.int32()))
    with pytest.raises(DataError, match=str(bad)):
        statistics.contents(pa.table({"input_ids": column, "labels": column}))


def test_distributions_count_every_row_once():
    assert statistics.by_doubling(np.array([1, 3, 4, 5, 8, 9])) == {"≤ 1": 1, "≤ 2": 0, "≤ 4": 2, "≤ 8": 2, "≤ 16": 1}
    assert statistics.by_doubling(np.array([1500])) == {"≤ 2,048": 1}
    assert statistics.by_number(np.array([1, 1, 3, 4, 9]), top=4) == {"1": 2, "2": 0, "3": 1, "4+": 2}
    shares = statistics.by_share(np.array([0, 5, 10, 1]), np.array([10, 10, 10, 0]))
    assert [name for name, rows in shares.items() if rows] == ["0–10 %", "50–60 %", "90–100 %"]
    assert sum(shares.values()) == 4


def test_the_summary_of_rows_without_tokens_divides_by_nothing():
    empty = statistics.Masks(*(np.zeros(2, np.int64) for _ in range(3)))
    assert statistics.summary(empty)["learnt"] == "0 (0.0%)"
    assert statistics.by_doubling(empty.lengths) == {"≤ 1": 2}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("naïve 12! 🙂", {"Latin": 5}),
        ("привет мир", {"Cyrillic": 9}),
        ("日本語のテキスト", {"Japanese": 8}),
        ("中文文本 abc", {"Han": 4, "Latin": 3}),
        ("中文" * 50 + "の", {"Han": 100, "Hiragana": 1}),
        ("한국어", {"Hangul": 3}),
        ("مرحبا", {"Arabic": 5}),
        ("42 ... 🙂", {}),
        ("", {}),
    ],
)
def test_letters_belong_to_their_script_and_signs_to_none(text, found):
    assert statistics.letters_by_script(text) == found


def test_scripts_are_those_of_the_learnt_text_alone(tiny_folder):
    chats = [
        Chat("a:1", ("english question", "ответ")),
        Chat("a:2", ("english question", "中文")),
        Chat("a:3", ("english question", "12 + 3")),
    ]
    rows = pa.Table.from_batches([on_disk.batch(chats, tiny_folder)])
    found = statistics.scripts(rows, TextTokenizer(tiny_folder))
    assert found == (3, {"Cyrillic": 1, "Han": 1, "no letters": 1}, {"Cyrillic": 5, "Han": 2})


def test_special_tokens_are_counted_and_those_that_never_occur_left_out(tiny_folder):
    rows = pa.Table.from_batches([on_disk.batch([Chat("a:1", ("q <|im_end|>", "a"))], tiny_folder)])
    found = statistics.special(statistics.contents(rows), TextTokenizer(tiny_folder))
    assert found == {"<|im_start|>": 2, "<|im_end|>": 2}
