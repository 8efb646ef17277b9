"""Where a dataset's rows came from and what became of the others: by its columns, `ledger.json` and `rejected.jsonl`."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from nlpft.data import view
from nlpft.data.ledger import OUTCOMES, REJECTED, REPAIRED, TRUNCATED
from nlpft.errors import DataError

PLACES = 3  # rows named for each reason


class Reason(NamedTuple):
    """Why rows were repaired, truncated or rejected."""

    outcome: str  # REPAIRED, TRUNCATED or REJECTED
    phrase: str
    rows: int
    places: tuple[str, ...]  # of the first ones
    remedy: str = ""


class Outcomes(NamedTuple):
    """What became of the rows of one file, or of all."""

    name: str
    rows_read: int
    counts: dict[str, int]  # OUTCOMES -> rows


def find(table: pa.Table, source: str) -> list[int]:
    """Numbers of the rows of `table` that came from `source`, which may leave out folders."""
    sources = _texts(table, "source")
    if sources is None:
        return []
    return _matching(sources, f"(^|/){re.escape(source)}$")


def find_rejected(dataset: Path, source: str) -> list[dict[str, Any]]:
    """The rejected rows that came from `source`, which may leave out folders, as `rejected.jsonl` has them."""
    ending = source.rpartition(":")[2].encode() + b'"'  # most lines need not be parsed
    return [row for row in rejected(dataset, ending) if is_from(row.get("source", ""), source)]


def is_from(place: str, source: str) -> bool:
    """Whether `place` is `source`, with or without folders."""
    return place == source or place.endswith(f"/{source}")


def rejected(dataset: Path, holding: bytes = b"") -> Iterator[dict[str, Any]]:
    """Lines of `rejected.jsonl` that hold those bytes, in their order. Raises DataError where one is damaged."""
    path = beside(dataset, "rejected.jsonl")
    if not path.is_file():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if holding in line:
                yield _parsed(line, f"{path}:{number}")


def beside(dataset: Path, name: str) -> Path:
    """A file of the dataset's folder, or of the folder above: the splits of a conversion share one ledger."""
    shared = not (dataset / name).exists() and is_split(dataset)
    return (dataset.resolve().parent if shared else dataset) / name


def is_split(dataset: Path) -> bool:
    """Whether a dataset's folder is one of the splits of the folder above."""
    return (dataset.resolve().parent / "dataset_dict.json").is_file()


def reasons(table: pa.Table, dataset: Path) -> list[Reason]:
    """Why rows of the dataset were repaired, and why others were rejected, the most frequent reasons first."""
    return _repairs(table) + _rejections(dataset)


def outcomes(facts: dict[str, Any]) -> list[Outcomes]:
    """What became of all rows, and then by file, from a ledger's summary; none where there is no ledger."""
    if "rows_read" not in facts:
        return []
    files = facts.get("files")  # a dataset of which only this is known has a list of names there
    by_file = files.items() if isinstance(files, dict) else ()
    return [_outcomes("all", facts), *(_outcomes(name, counts) for name, counts in by_file)]


def repairs(notes: str) -> list[str]:
    """A row's repairs, from its column `notes`; truncation says there how many tokens it took."""
    return [phrase for phrase in notes.split("; ") if phrase]


def repaired_by(table: pa.Table, phrase: str) -> list[int]:
    """Numbers of the rows that have `phrase` among their repairs; TRUNCATED: of those that lost tokens."""
    notes = _texts(table, "notes")
    if notes is None:
        return []
    behind = ": " if phrase == TRUNCATED else "($|; )"
    return _matching(notes, f"(^|; ){re.escape(phrase)}{behind}")


def _outcomes(name: str, summary: dict[str, Any]) -> Outcomes:
    return Outcomes(name, summary["rows_read"], {outcome: _count(summary.get(outcome, 0)) for outcome in OUTCOMES})


def _count(value: Any) -> int:
    """Rows of one outcome; nlpft 0.1 wrote the rejected ones by reason."""
    return sum(value.values()) if isinstance(value, dict) else value


def _repairs(table: pa.Table) -> list[Reason]:
    notes = _texts(table, "notes")
    if notes is None:
        return []
    counts: Counter[str] = Counter()
    for entry in pc.value_counts(notes).to_pylist():
        for phrase in repairs(entry["values"] or ""):
            counts[TRUNCATED if phrase.startswith(f"{TRUNCATED}: ") else phrase] += entry["counts"]
    return [
        Reason(TRUNCATED if phrase == TRUNCATED else REPAIRED, phrase, rows, _first_places(table, phrase))
        for phrase, rows in counts.most_common()
    ]


def _first_places(table: pa.Table, phrase: str) -> tuple[str, ...]:
    return tuple(view.row(table, number).place for number in repaired_by(table, phrase)[:PLACES])


def _matching(texts: pa.ChunkedArray, pattern: str) -> list[int]:
    """Numbers of the texts that have `pattern` (RE2's) in them."""
    return pc.indices_nonzero(pc.match_substring_regex(texts, pattern)).to_pylist()


def _texts(table: pa.Table, name: str) -> pa.ChunkedArray | None:
    """A column as strings; None where there is none, or it holds something else."""
    if name not in table.column_names:
        return None
    column = table.column(name)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    return column.cast(pa.string()) if pa.types.is_string(kind) or pa.types.is_large_string(kind) else None


def _rejections(dataset: Path) -> list[Reason]:
    found: dict[str, Reason] = {}
    for row in rejected(dataset):
        phrase = row["reason"]
        known = found.get(phrase) or Reason(REJECTED, phrase, 0, (), row.get("remedy") or "")
        places = known.places if len(known.places) == PLACES else (*known.places, row["source"])
        found[phrase] = known._replace(rows=known.rows + 1, places=places)
    return sorted(found.values(), key=lambda reason: -reason.rows)


def _parsed(line: bytes, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)  # orjson refuses the lone surrogates that rejected rows may hold
        return {"source": row["source"], "reason": row["reason"], **row}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{place}: damaged ({error}); convert the dataset again") from error
