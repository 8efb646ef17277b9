"""Datasets on disk, in the layout that `datasets.load_from_disk` opens, written and read without importing datasets.

A dataset is a folder of shards (Arrow streams), or, where there are splits, a folder of such folders.
"""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from nlpft.errors import DataError

MOST_SHARDS = 64  # a reader keeps every shard open
END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"  # of an Arrow stream, behind the last batch
LISTS = ("input_ids", "labels")  # columns of lists that a dataset for language models has
SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("labels", pa.list_(pa.int32())),
        ("length", pa.int32()),
        ("source", pa.string()),
        ("notes", pa.string()),
    ]
)


def _features(schema: pa.Schema) -> dict[str, Any]:
    return {field.name: _feature(field.type) for field in schema}


def _feature(kind: pa.DataType) -> dict[str, Any]:
    """A column's type in the words of `datasets`."""
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    names = {pa.float32(): "float32", pa.float64(): "float64"}
    return {"dtype": names.get(kind, str(kind)), "_type": "Value"}


def _described(schema: pa.Schema) -> pa.Schema:
    """`schema` with the types in the words of `datasets`."""
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": _features(schema)}})})


def write_part(path: Path, batches: Sequence[pa.RecordBatch], schema: pa.Schema = SCHEMA) -> None:
    """Write `batches` as an Arrow stream of its own: a shard, or part of one."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, _described(schema)) as stream:
        for batch in batches:
            stream.write_batch(batch)


def assemble(
    folder: Path, parts: Sequence[Path], info: dict[str, Any], split: str | None = None, schema: pa.Schema = SCHEMA
) -> None:
    """Make `parts`, in their order, the dataset in the new `folder`; `info` is what it was made from.

    The parts stay where they are, so that a kill costs nothing; they are linked, not copied, up to MOST_SHARDS.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size = -(-len(parts) // MOST_SHARDS)
    groups = [parts[i : i + size] for i in range(0, len(parts), size or 1)] or [()]
    names = [f"data-{i:05d}-of-{len(groups):05d}.arrow" for i in range(len(groups))]
    for name, group in zip(names, groups, strict=True):
        _join(group, folder / name, schema)
    _write_json(
        folder / "dataset_info.json",
        {"features": _features(schema), "description": "", "citation": "", "homepage": "", "license": ""},
    )
    _write_json(
        folder / "state.json",
        {
            "_data_files": [{"filename": name} for name in names],
            "_fingerprint": info["fingerprint"],
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": split,
        },
    )
    shards = {name: (folder / name).stat().st_size for name in names}
    _write_json(folder / "nlpft.json", {**info, "shards": shards})


def write_splits(folder: Path, names: Sequence[str], info: dict[str, Any]) -> None:
    """Make `folder`, which holds a dataset for each of `names`, a `DatasetDict`."""
    _write_json(folder / "dataset_dict.json", {"splits": list(names)})
    _write_json(folder / "nlpft.json", {**info, "splits": list(names)})


def is_whole(folder: Path, fingerprint: str) -> bool:
    """Whether `folder` holds the dataset of that fingerprint, with all its shards in full length."""
    try:
        facts = json.loads((folder / "nlpft.json").read_text(encoding="utf-8"))
        if facts.get("fingerprint") != fingerprint:
            return False
        if "splits" in facts:
            return all(is_whole(folder / name, fingerprint) for name in facts["splits"])
        return all((folder / name).stat().st_size == size for name, size in facts["shards"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def read(folder: Path, needs: Sequence[str] = LISTS) -> pa.Table:
    """The rows of a dataset folder, memory-mapped; `needs`: columns that it must have.

    Raises DataError where it is not a dataset, lacks a column, or holds no row.
    """
    if (folder / "dataset_dict.json").is_file():
        names = ", ".join(_read_json(folder / "dataset_dict.json").get("splits", []))
        raise DataError(f"{folder}: holds the splits {names}; name one of them, such as {folder}/{names.split(',')[0]}")
    try:
        files = [f["filename"] for f in json.loads((folder / "state.json").read_text(encoding="utf-8"))["_data_files"]]
        shards = [pa.ipc.open_stream(pa.memory_map(str(folder / name))).read_all() for name in files]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"{folder}: not a dataset folder ({error}); make one by `nlpft convert FILES -o {folder}`"
        ) from error
    table = pa.concat_tables(shards)
    missing = [name for name in needs if name not in table.column_names]
    if missing:
        raise DataError(f"{folder}: no column {', '.join(missing)}; it has {', '.join(table.column_names)}")
    if not table.num_rows:
        raise DataError(f"{folder}: the dataset is empty")
    return table


def info(folder: Path) -> dict[str, Any]:
    """What `assemble` was told of the dataset; {} for a dataset that something else has written."""
    return _read_json(folder / "nlpft.json")


def facts(folder: Path) -> dict[str, Any]:
    """All that is known of a dataset: its folder, what it was made from, and its ledger's counts."""
    ledger = next((path for path in (folder, folder.parent) if (path / "ledger.json").is_file()), folder)
    return {"folder": str(folder), **info(folder), **_read_json(ledger / "ledger.json")}


def _join(parts: Sequence[Path], shard: Path, schema: pa.Schema) -> None:
    """One part under another name, or several in one: a stream is the schema, batches, and an end."""
    if len(parts) == 1:
        try:
            os.link(parts[0], shard)
        except OSError:  # a file system without links
            shutil.copyfile(parts[0], shard)
        return
    if not parts:  # a split that no row fell into
        write_part(shard, [], schema)
        return
    head = len(_described(schema).serialize())
    with shard.open("wb") as out:
        for i, part in enumerate(parts):
            with part.open("rb") as stream:
                stream.seek(head if i else 0)
                shutil.copyfileobj(stream, out, 1 << 20)
            out.seek(-len(END_OF_STREAM), os.SEEK_END)
        out.write(END_OF_STREAM)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error}); convert the dataset again") from error


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
