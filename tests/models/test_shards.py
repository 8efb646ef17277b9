"""Tensors written one by one are those that safetensors reads; broken files are named."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from nlpft.errors import ModelError
from nlpft.models import shards

TENSORS = {
    "a.weight": torch.arange(12, dtype=torch.float32).reshape(3, 4).t(),  # not contiguous
    "b": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "c": torch.tensor(7.0, dtype=torch.float16),
    "d": torch.tensor([[1, -2]], dtype=torch.int64),
    "e": torch.zeros(0, 5),
    "f": torch.tensor([True, False, True]),
}


def layouts(tensors):
    return {name: shards.Layout(t.dtype, tuple(t.shape)) for name, t in tensors.items()}


def test_what_is_written_is_what_safetensors_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "BLOCK", 5)  # in several pieces
    file = tmp_path / "model.safetensors"
    shards.write(file, layouts(TENSORS), TENSORS.items())
    found = load_file(file)
    assert found.keys() == TENSORS.keys()
    assert all(
        torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in TENSORS.items()
    )
    assert all(torch.equal(shards.read(file, name), tensor) for name, tensor in TENSORS.items())


def test_values_are_rounded_to_the_layouts_type(tmp_path):
    file = tmp_path / "x.safetensors"
    shards.write(file, {"x": shards.Layout(torch.bfloat16, (1,))}, [("x", torch.tensor([1.001]))])
    assert load_file(file)["x"].tolist() == [1.0]


def test_tensors_out_of_order_are_an_error_not_a_mix_up(tmp_path):
    two = {"x": torch.zeros(2), "y": torch.ones(2)}
    with pytest.raises(AssertionError):
        shards.write(tmp_path / "x.safetensors", layouts(two), [("y", two["y"]), ("x", two["x"])])


def test_an_index_says_which_file_and_one_file_needs_none(tmp_path):
    save_file({"x": torch.zeros(2)}, tmp_path / shards.SINGLE)
    assert shards.index(tmp_path) == {"x": shards.SINGLE}
    shards.write_index(tmp_path, {"x": shards.SINGLE})
    assert not (tmp_path / shards.INDEX).exists()
    files = {"x": "model-1.safetensors", "y": "model-2.safetensors"}
    for name, file in files.items():
        save_file({name: torch.zeros(2)}, tmp_path / file)
    shards.write_index(tmp_path, files)
    assert shards.index(tmp_path) == files
    assert json.loads((tmp_path / shards.INDEX).read_text())["metadata"]["total_size"] == 2 * 2 * 4
    assert shards.index(tmp_path.parent) == {}


def test_what_is_missing_or_broken_is_named(tmp_path):
    save_file({"x": torch.zeros(2)}, tmp_path / "model-1.safetensors")
    shards.write_index(tmp_path, {"x": "model-1.safetensors"})
    index = json.loads((tmp_path / shards.INDEX).read_text())
    for weight_map, said in (
        ({"x": "model-1.safetensors", "y": "gone.safetensors"}, "gone.safetensors: is not there"),
        ({"z": "model-1.safetensors"}, "lacks z"),
    ):
        (tmp_path / shards.INDEX).write_text(json.dumps({**index, "weight_map": weight_map}))
        with pytest.raises(ModelError, match=said):
            shards.index(tmp_path)
    (tmp_path / shards.INDEX).write_text("{")
    with pytest.raises(ModelError, match="broken"):
        shards.index(tmp_path)
    (tmp_path / "model-1.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(ModelError, match="copied or downloaded whole"):
        shards.names(tmp_path / "model-1.safetensors")
