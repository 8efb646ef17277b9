"""Slices -> conversations: each row with what it says, or why it says nothing that can be used."""

from collections.abc import Iterator

from nlpft.data.conversation import Reading, conversation
from nlpft.data.rows import Bad, rows
from nlpft.data.slices import Slice
from nlpft.errors import RowRejected
from nlpft.types import Conversation, Record


def read_conversations(
    piece: Slice, reading: Reading
) -> Iterator[tuple[int, Record | Bad, Conversation | RowRejected]]:
    """(number in the slice, row, its conversation or why it has none) of each row of a slice, in order.

    Raises DataError where the slice's file is no longer there, ConfigError where a format is named that is not there.
    """
    read = rows(piece)
    for i, record in enumerate(read.records):
        if isinstance(record, Bad):
            yield i, record, record.error
            continue
        try:
            found: Conversation | RowRejected = conversation(record, reading, i in read.suspect)
        except RowRejected as why:
            found = why
        yield i, record, found
