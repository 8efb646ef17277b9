"""A record that is not in the dataset, as the ledger keeps it."""

from nlpft.data.ledger import Rejection
from nlpft.data.rows import Bad
from nlpft.errors import RowRejected
from nlpft.formats import _fields
from nlpft.formats._fields import Columns
from nlpft.types import Record


def rejection(record: Record | Bad, why: RowRejected, columns: Columns) -> Rejection:
    """`record` with the reason and the row's own name for itself (columns.id, or a known key)."""
    if isinstance(record, Bad):
        return Rejection(record.source, record.offset, "", why, record.text)
    name = _fields.name(record.data, columns) if isinstance(record.data, dict) else ""
    return Rejection(record.source, record.offset, name, why, record.data)
