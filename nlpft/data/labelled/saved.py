"""Folders that `datasets` has saved (`save_to_disk`), read by pyarrow: names of classes come from the features."""

import json
from typing import Any

import pyarrow as pa

from nlpft.data import tables
from nlpft.data.labelled import records
from nlpft.data.labelled.columns import roles
from nlpft.data.labelled.example import Read
from nlpft.data.labelled.inputs import Input
from nlpft.data.labelled.options import LabelOptions
from nlpft.errors import DataError
from nlpft.types import Record


def read(one: Input, options: LabelOptions) -> Read:
    """The rows of a saved dataset. Raises DataError where it is damaged, or its columns are not found."""
    rows = _rows(one)
    chosen = roles(rows, options.columns, options.task, one.name)
    found = [Record(row, f"{one.name}:{number}") for number, row in enumerate(rows, 1)]
    return Read(one.name, records.examples(found, chosen), chosen.said())


def _rows(one: Input) -> list[dict[str, Any]]:
    try:
        state = json.loads((one.path / "state.json").read_text(encoding="utf-8"))
        features = json.loads((one.path / "dataset_info.json").read_text(encoding="utf-8"))["features"] or {}
        shards = [_shard(str(one.path / file["filename"])) for file in state["_data_files"]]
    except (OSError, KeyError, ValueError, TypeError, pa.ArrowException) as error:
        raise DataError(f"{one.name}: not a whole saved dataset ({error}); save it again by `save_to_disk`") from error
    if state.get("_indices_data_files"):
        raise DataError(f"{one.name}: saved with an indices mapping; call `flatten_indices()` before `save_to_disk`")
    rows = [row for shard in shards for batch in shard.to_batches() for row in tables.plain(batch.to_struct_array())]
    names = {column: found for column, feature in features.items() if (found := _class_names(feature))}
    for row in rows:
        row.update({column: _named(row[column], found) for column, found in names.items() if column in row})
    return rows


def _shard(path: str) -> pa.Table:
    return pa.ipc.open_stream(pa.memory_map(path)).read_all()


def _class_names(feature: Any) -> list[str]:
    """The names of a ClassLabel, also of one within a list."""
    if isinstance(feature, list):  # datasets before 2.0 wrote lists so
        return _class_names(feature[0]) if feature else []
    if not isinstance(feature, dict):
        return []
    return feature.get("names") or _class_names(feature.get("feature"))


def _named(value: Any, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None
