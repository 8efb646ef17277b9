"""Packing: a plan that holds every row once, and depends on nothing but seed and lengths."""

import numpy as np
import pytest
from tiny import chat, write_json

from nlpft.data.convert import Options, convert
from nlpft.data.loader import DataConfig, PackedData, Share
from nlpft.data.pack import pack
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import DataError
from nlpft.types import IGNORE

LENGTHS = np.random.default_rng(0).integers(1, 100, 500)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_folder):
    where = tmp_path_factory.mktemp("packed")
    rows = [chat("word " * n, f"reply {n} " * (1 + n % 7)) for n in range(1, 42)]
    convert([write_json(where / "rows.json", rows)], where / "out", TextTokenizer(tiny_folder), Options())
    return where / "out"


@pytest.mark.parametrize("order", [None, np.random.default_rng(1).permutation(500)])
def test_every_row_stands_in_one_pack_and_none_overflows(order):
    packs = pack(LENGTHS, 128, order)
    assert sorted(row for rows in packs for row in rows) == list(range(500))
    assert max(sum(LENGTHS[rows]) for rows in packs) <= 128
    assert sum(LENGTHS) / (128 * len(packs)) > 0.98


def test_the_number_of_packs_does_not_depend_on_the_order():
    assert {len(pack(LENGTHS, 128, np.random.default_rng(s).permutation(500))) for s in range(5)} == {
        len(pack(LENGTHS, 128))
    }


def test_a_row_longer_than_a_pack_is_refused(folder):
    with pytest.raises(ValueError, match="does not fit"):
        pack(np.array([3, 129]), 128)
    with pytest.raises(DataError, match=r"rows\.json:41.*raise data\.max_length"):
        PackedData(folder, 60)


def ids(step):
    return [tuple(batch["input_ids"][0].tolist()) for batch in step]


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [1, 2])
def test_a_step_holds_the_same_tokens_however_it_is_cut(folder, processes, size):
    data = PackedData(folder, 128)
    config = DataConfig(folder, max_length=128, packs_per_step=4, packs_per_micro_batch=size)
    whole = data.steps(DataConfig(folder, max_length=128, packs_per_step=4), 0, Share())
    parts = [data.steps(config, 0, Share(p, processes)) for p in range(processes)]
    for _ in range(2 * data.steps_per_epoch(4)):
        expected = sorted(t for batch in ids(next(whole)) for t in batch)
        shares = [ids(next(part)) for part in parts]
        got = [t for share in shares for batch in share for t in batch]
        empty = sum(batch == (0,) for share in shares for batch in share)
        assert sorted(got) == sorted(expected + [0] * empty)
        assert len({len(share) for share in shares}) == 1


def test_an_epoch_sees_every_row_once(folder):
    data = PackedData(folder, 128)
    for epoch in range(3):
        assert sorted(r for rows in data.packs(0, epoch) for r in rows) == list(range(41))
    assert data.packs(0, 0) != data.packs(0, 1) != data.packs(1, 1)


@pytest.mark.parametrize("first", [0, 1, 3, 9])
def test_a_run_can_begin_at_any_step(folder, first):
    data, config = PackedData(folder, 128), DataConfig(folder, max_length=128, packs_per_step=3)
    whole, late = data.steps(config, 5, Share()), data.steps(config, 5, Share(), first)
    for _ in range(first):
        next(whole)
    for _ in range(8):
        assert ids(next(whole)) == ids(next(late))


def test_the_first_token_of_a_row_is_no_target_of_the_row_before(folder):
    data = PackedData(folder, 128)
    for rows in data.packs(0, 0):
        (batch,) = data.micro_batches([rows], 1, Share())
        starts = (batch["position_ids"][0] == 0).nonzero().flatten()
        assert len(starts) == len(rows)
        assert (batch["labels"][0][starts] == IGNORE).all()


def test_static_shapes_pad_without_targets(folder):
    plain, padded = PackedData(folder, 128), PackedData(folder, 128, static_shapes=True)
    for rows in plain.packs(0, 0):
        (a,), (b,) = plain.micro_batches([rows], 1, Share()), padded.micro_batches([rows], 1, Share())
        length = a["labels"].shape[1]
        assert b["labels"].shape[1] == 128
        assert (b["labels"][0, :length] == a["labels"][0]).all()
        assert (b["labels"][0, length:] == IGNORE).all()
        assert length == 128 or b["position_ids"][0, length] == 0
