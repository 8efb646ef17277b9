"""Datasets on disk, in the layout that `datasets.load_from_disk` opens, written and read without importing datasets."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from nlpft.errors import DataError

SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("labels", pa.list_(pa.int32())),
        ("length", pa.int32()),
        ("source", pa.string()),
    ]
)
SHARD = "data-00000-of-00001.arrow"


def write(folder: Path, batches: Iterable[pa.RecordBatch], info: dict[str, Any]) -> None:
    """Write `batches` (SCHEMA) and `info` (what the dataset was made from) into the existing `folder`."""
    schema = SCHEMA.with_metadata({"huggingface": json.dumps({"info": {"features": _features()}})})
    with pa.OSFile(str(folder / SHARD), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
        for batch in batches:
            stream.write_batch(batch)
    _write_json(
        folder / "dataset_info.json",
        {"features": _features(), "description": "", "citation": "", "homepage": "", "license": ""},
    )
    _write_json(
        folder / "state.json",
        {
            "_data_files": [{"filename": SHARD}],
            "_fingerprint": info["fingerprint"],
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        },
    )
    _write_json(folder / "nlpft.json", info)


def read(folder: Path) -> pa.Table:
    """The rows of a dataset folder, memory-mapped.

    Raises DataError where it is not a dataset, lacks a column, or holds no row.
    """
    try:
        files = [f["filename"] for f in json.loads((folder / "state.json").read_text(encoding="utf-8"))["_data_files"]]
        shards = [pa.ipc.open_stream(pa.memory_map(str(folder / name))).read_all() for name in files]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"{folder}: not a dataset folder ({error}); make one by `nlpft convert FILES -o {folder}`"
        ) from error
    table = pa.concat_tables(shards)
    missing = [name for name in ("input_ids", "labels") if name not in table.column_names]
    if missing:
        raise DataError(f"{folder}: no column {', '.join(missing)}; it has {', '.join(table.column_names)}")
    if not table.num_rows:
        raise DataError(f"{folder}: the dataset is empty")
    return table


def info(folder: Path) -> dict[str, Any]:
    """What `write` was told of the dataset; {} for a dataset that something else has written."""
    return _read_json(folder / "nlpft.json")


def facts(folder: Path) -> dict[str, Any]:
    """All that is known of a dataset: its folder, what it was made from, and its ledger's counts."""
    return {"folder": str(folder), **info(folder), **_read_json(folder / "ledger.json")}


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error}); convert the dataset again") from error


def _features() -> dict[str, Any]:
    value = {"dtype": "int32", "_type": "Value"}
    return {
        "input_ids": {"feature": value, "_type": "List"},
        "labels": {"feature": value, "_type": "List"},
        "length": value,
        "source": {"dtype": "string", "_type": "Value"},
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
