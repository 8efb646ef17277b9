"""One labelled text or one sentence of tagged words, as a file has it, before labels become numbers."""

from typing import Any, NamedTuple

from nlpft.data.ledger import Rejection
from nlpft.data.rows import Bad
from nlpft.errors import RowRejected
from nlpft.types import Record


class Example(NamedTuple):
    """A row that can be read."""

    source: str  # 'reviews.csv:17'; of a sentence in columns: the line of its first word
    text: str = ""
    pair: str | None = None  # the second text, where rows have two
    label: Any = None  # as the file has it: a name, a number, or a list of them
    words: tuple[str, ...] = ()  # of a tagged sentence, which has no text
    tags: tuple[str, ...] = ()  # one for each word
    notes: tuple[str, ...] = ()  # what was repaired on the way, as fixed phrases: they are counted
    offset: int = 0  # bytes from the beginning of the (unpacked) file
    row: Any = None  # as it was read, for rejected.jsonl

    def reject(self, reason: str, detail: str = "") -> Rejection:
        """Why this row is not in the dataset."""
        return Rejection(self.source, self.offset, "", RowRejected(reason, detail), self.row)


Row = Example | Rejection  # what becomes of each row that a reader finds


class Read(NamedTuple):
    """All rows of one input file."""

    name: str  # of the file, as the user wrote it
    rows: list[Row]
    how: str = ""  # what was guessed about the file, for the user


def unread(record: Record | Bad, why: RowRejected | None = None) -> Rejection:
    """A record that gives no example: its own error, or `why`."""
    if isinstance(record, Bad):
        return Rejection(record.source, record.offset, "", record.error, record.text)
    assert why is not None
    return Rejection(record.source, record.offset, "", why, record.data)
