"""Datasets on disk: shards, splits, and what is whole."""

import json

import datasets
import pytest

from nlpft.data import store
from nlpft.data.columns import int32, lists, strings
from nlpft.errors import DataError

INFO = {"fingerprint": "abc", "model": "m"}


def batch(numbers: list[int]):
    import numpy as np
    import pyarrow as pa

    ids = np.repeat(np.array(numbers, np.int32), 2)
    offsets = np.arange(len(numbers) + 1) * 2
    columns = [lists(ids, offsets), lists(ids, offsets), int32(np.full(len(numbers), 2))]
    names = strings([f"f:{n}" for n in numbers])
    return pa.RecordBatch.from_arrays([*columns, names, strings([""] * len(numbers))], schema=store.SCHEMA)


def parts(folder, count: int) -> list:
    paths = [folder / f"part-{i}.arrow" for i in range(count)]
    for i, path in enumerate(paths):
        store.write_part(path, [batch([10 * i, 10 * i + 1])])
    return paths


@pytest.mark.parametrize("count", [1, 3, store.MOST_SHARDS, 2 * store.MOST_SHARDS + 1])
def test_rows_keep_their_order_and_shards_stay_few(tmp_path, count):
    store.assemble(tmp_path / "d", parts(tmp_path, count), INFO)
    expected = [f"f:{10 * i + j}" for i in range(count) for j in (0, 1)]
    assert store.read(tmp_path / "d").column("source").to_pylist() == expected
    assert datasets.load_from_disk(str(tmp_path / "d"))["source"][:] == expected
    assert len(list((tmp_path / "d").glob("*.arrow"))) <= store.MOST_SHARDS


def test_parts_stay_for_whoever_is_killed_now(tmp_path):
    paths = parts(tmp_path, 3)
    store.assemble(tmp_path / "d", paths, INFO)
    assert all(path.is_file() for path in paths)


def test_splits_open_as_a_dataset_dict(tmp_path):
    for name, count in (("train", 2), ("eval", 0)):
        store.assemble(tmp_path / "d" / name, parts(tmp_path, count), INFO, name)
    store.write_splits(tmp_path / "d", ["train", "eval"], INFO)
    found = datasets.load_from_disk(str(tmp_path / "d"))
    assert {name: len(rows) for name, rows in found.items()} == {"train": 4, "eval": 0}
    with pytest.raises(DataError, match=r"splits train, eval; name one of them, such as .*d/train"):
        store.read(tmp_path / "d")


def test_a_dataset_is_whole_or_not(tmp_path):
    folder = tmp_path / "d"
    assert not store.is_whole(folder, "abc")
    store.assemble(folder, parts(tmp_path, 2), INFO)
    assert store.is_whole(folder, "abc")
    assert not store.is_whole(folder, "other")
    shard = next(folder.glob("*.arrow"))
    whole = shard.read_bytes()
    shard.unlink()  # it is a link to the part
    shard.write_bytes(whole[:-9])
    assert not store.is_whole(folder, "abc")
    (folder / "nlpft.json").write_text(json.dumps([1]))
    assert not store.is_whole(folder, "abc")
