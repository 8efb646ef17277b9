"""Contamination: planted benchmark items are found, near misses are not, and the item is named."""

import os
import random
from pathlib import Path

import numpy as np
import orjson
import pytest

from nlpft.data.select import contamination
from nlpft.data.select.contamination import COMMON, index, item_texts, overlaps
from nlpft.data.select.words import pieces

DRAW = random.Random(0)


@pytest.fixture(autouse=True)
def _same_texts_in_every_order_of_tests():
    DRAW.seed(1)


def words(count: int) -> list[str]:
    return [f"w{DRAW.randrange(50_000)}" for _ in range(count)]


def text(count: int) -> str:
    return " ".join(words(count))


ITEMS = [(f"bench.jsonl:{n}", [text(40), text(3)]) for n in range(1, 30)]


def found(rows: list[list[str]], items=ITEMS, n: int = 13, least: float = 0.0) -> list[tuple[int, str]]:
    return [(overlap.row, overlap.item) for overlap in overlaps(rows, index(items, n), least)]


def test_a_planted_item_is_found_and_named():
    planted = f"{text(50)}\n{ITEMS[6][1][0].upper()}?! {text(50)}"
    assert found([[text(100)], [text(20), planted], [text(100)]]) == [(1, "bench.jsonl:7")]


@pytest.mark.parametrize("n", [8, 13])
def test_a_run_of_n_words_is_found_and_one_of_fewer_is_not(n):
    item = ITEMS[3][1][0].split()
    for start in (0, 11, 40 - n):
        run = item[start : start + n]
        assert found([[" ".join([*words(5), *run, *words(5)])]], n=n) == [(0, "bench.jsonl:4")]
        assert found([[" ".join([*words(5), *run[:-1], *words(5)])]], n=n) == []


def test_a_run_does_not_reach_over_two_turns():
    item = ITEMS[3][1][0].split()
    assert found([[" ".join(item[:12]), " ".join(item[12:24])]]) == []


def test_changed_words_at_every_twelfth_place_are_a_near_miss():
    item = [word if place % 12 else "changed" for place, word in enumerate(ITEMS[3][1][0].split())]
    assert found([[" ".join(item)]]) == []


def test_a_short_item_is_found_as_a_whole_turn_only():
    items = [("copa.jsonl:1", ["The man turned on the faucet, therefore", "yes it did", "4"])]
    assert found([["the man turned on the faucet therefore!"]], items) == [(0, "copa.jsonl:1")]
    assert found([["He said: the man turned on the faucet, therefore"]], items) == []
    assert found([["yes it did"], ["4"], [""], ["..."]], items) == []


def test_a_phrase_that_many_items_share_is_no_evidence():
    phrase = text(20)
    items = [(f"b:{n}", [f"{phrase} {text(20)}"]) for n in range(COMMON + 1)]
    assert found([[phrase]], items) == []
    assert found([[phrase]], items[:COMMON]) == [(0, "b:0")]
    assert found([[items[5][1][0]]], items) == [(0, "b:5")]


def test_the_item_that_a_row_holds_most_of_is_named():
    first, second = words(100), words(40)
    items = [("a:1", [" ".join(first)]), ("a:2", [" ".join(second)])]
    row = " ".join([*first[:60], *second])
    (overlap,) = overlaps([[row]], index(items))
    assert overlap == (0, "a:2", 1.0)
    (part,) = overlaps([[" ".join(first[:56])]], index(items))
    assert part.share == (56 - 12) / (100 - 12)


def test_what_an_item_says_over_and_over_counts_once():
    phrase = " ".join(words(15))
    row = [" ".join([phrase] * (COMMON + 5))]
    assert overlaps([row], index([("a:1", row)])) == [(0, "a:1", 1.0)]


def test_a_hash_that_only_looks_like_one_in_the_index_is_not_known():
    built = index(ITEMS)
    near = np.concatenate([built.hashes[[0, -1]] + np.uint64(1), built.hashes[[0, -1]] - np.uint64(1)])
    places, rows = contamination._known(np.append(near, built.hashes[5]), np.arange(5), built)
    assert (places.tolist(), rows.tolist()) == ([5], [4])


def test_rows_that_hold_less_than_the_least_share_stay():
    item = ITEMS[3][1][0].split()
    row = [" ".join(item[:26])]  # 14 of 28 runs
    assert found([row], least=0.5) == [(0, "bench.jsonl:4")]
    assert found([row], least=0.51) == []


def test_rows_are_numbered_over_all_pieces(monkeypatch):
    rows = [[item[1][0]] for item in ITEMS]
    built = index(ITEMS)
    monkeypatch.setattr(contamination, "pieces", lambda rows: pieces(rows, size=500))
    assert overlaps(rows, built) == [(n, item[0], 1.0) for n, item in enumerate(ITEMS)]
    assert all((one == other).all() for one, other in zip(built[1:5], index(ITEMS)[1:5], strict=True))


def test_every_text_of_an_item_counts_whatever_its_place():
    data = {"q": "a", "choices": [{"text": "b"}, "c"], "gold": 1, "none": None, "deep": [[["d"]]]}
    assert sorted(item_texts(data)) == ["a", "b", "c", "d"]
    assert item_texts("a line") == ["a line"]
    assert item_texts(7) == []


def test_nothing_is_found_in_nothing():
    assert found([], ITEMS) == []
    assert found([[text(50)]], []) == []
    assert found([[]], ITEMS) == []


CORPORA = os.environ.get("NLPFT_CORPORA")


def lines(name: str) -> list[tuple[str, list[str]]]:
    rows = (Path(CORPORA or "") / "benchmarks" / name).read_bytes().splitlines()
    return [(f"{name}:{number}", item_texts(orjson.loads(row))) for number, row in enumerate(rows, 1)]


@pytest.mark.skipif(not CORPORA, reason="set NLPFT_CORPORA to a folder of real corpora (see CONTRIBUTING)")
def test_a_benchmarks_training_rows_hold_next_to_none_of_its_test_rows():
    test, train = index(lines("gsm8k_test.jsonl")), [texts for _, texts in lines("gsm8k_train.jsonl")]
    assert len(overlaps([texts for _, texts in lines("gsm8k_test.jsonl")], test, 1.0)) == 1_319
    assert len(overlaps(train, test)) == 10  # runs of numbers and stock phrases
    assert overlaps(train, test, 0.3) == []
