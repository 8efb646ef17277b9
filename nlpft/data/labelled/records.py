"""Rows of JSON, CSV, TSV and parquet files -> examples, by the roles of their columns."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nlpft.data.labelled.columns import Roles
from nlpft.data.labelled.example import Example, Row, unread
from nlpft.data.rows import Bad
from nlpft.errors import RowRejected
from nlpft.types import Record

EMPTY, NO_LABEL, NO_TEXT = "empty text", "no label", "no text column"
NO_WORDS, UNEQUAL = "no words", "as many tags as words are needed"


def examples(records: Sequence[Record | Bad], roles: Roles) -> list[Row]:
    """An example for each record, or why it is none, in order."""
    read = tagged if roles.words else labelled
    return [_example(record, roles, read) for record in records]


def _example(record: Record | Bad, roles: Roles, read: Any) -> Row:
    if isinstance(record, Bad):
        return unread(record)
    try:
        if not isinstance(record.data, Mapping):
            raise RowRejected("not an object", f"a row is a {type(record.data).__name__}")
        return read(record, roles)
    except RowRejected as why:
        return unread(record, why)


def labelled(record: Record, roles: Roles) -> Example:
    """A text, or two, with its label. Raises RowRejected."""
    row = record.data
    texts = [_text(row, name) for name in roles.text]
    text = " ".join(part for part in texts if part.strip())
    pair = _text(row, roles.pair) if roles.pair else None
    check_texts(text, pair)
    label = row.get(roles.label[0]) if len(roles.label) == 1 else {name: row.get(name) for name in roles.label}
    if label is None or (isinstance(label, str) and not label.strip()):
        raise RowRejected(NO_LABEL)
    return Example(record.source, text, pair, label, offset=record.offset, row=row)


def check_texts(text: str, pair: str | None = None) -> None:
    """Raise RowRejected where a text says nothing."""
    if not text.strip():
        raise RowRejected(EMPTY)
    if pair is not None and not pair.strip():
        raise RowRejected(EMPTY, "the second one")


def tagged(record: Record, roles: Roles) -> Example:
    """Words with their tags. Raises RowRejected."""
    row = record.data
    words, tags = _list(row.get(roles.words)), _list(row.get(roles.tags))
    return sentence(record.source, words, tags, record.offset, row)


def sentence(source: str, words: Sequence[str], tags: Sequence[str], offset: int, row: Any) -> Example:
    """Words with their tags. Raises RowRejected where there are none, or not as many tags as words."""
    if not words:
        raise RowRejected(NO_WORDS)
    if len(words) != len(tags):
        raise RowRejected(UNEQUAL, f"{len(words)} words, {len(tags)} tags")
    return Example(source, words=tuple(words), tags=tuple(tags), offset=offset, row=row)


def _text(row: Mapping[str, Any], name: str) -> str:
    found = row.get(name)
    if found is None:
        raise RowRejected(NO_TEXT if name not in row else EMPTY, name)
    return found if isinstance(found, str) else str(found)


def _list(found: Any) -> list[str]:
    """Words or tags of a row: a list, its JSON text, or text parted by blanks."""
    if isinstance(found, str):
        found = json.loads(found) if found[:1] == "[" and found[-1:] == "]" and '"' in found else found.split()
    return [str(item) for item in found or []]
