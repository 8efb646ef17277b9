"""Input files -> rows: which reader a file needs, and what it gives."""

from collections.abc import Callable, Mapping
from pathlib import Path

from nlpft.data import sources, stream
from nlpft.data.labelled import conll, lines, parallel, records, saved, sniff
from nlpft.data.labelled.columns import roles
from nlpft.data.labelled.example import Read
from nlpft.data.labelled.inputs import Input, data, is_parallel, is_saved, recoded
from nlpft.data.labelled.options import LabelOptions
from nlpft.data.read import read as read_records
from nlpft.data.rows import Bad
from nlpft.data.sources import Source, ending_of
from nlpft.errors import DataError
from nlpft.types import Record

HEAD = 1 << 20  # bytes looked at


def read(one: Input, options: LabelOptions) -> Read:
    """All rows of an input, each an example or why it is none.

    Raises DataError where the file cannot be read, or its columns are not found.
    """
    if one.path.is_dir():
        reader = saved.read if is_saved(one.path) and not is_parallel(one.path) else parallel.read
        return reader(one, options)
    kind = options.format if options.format not in ("auto", "parallel") else _kind(one, options)
    return READERS[kind](one, options)


def _kind(one: Input, options: LabelOptions) -> str:
    path = recoded(one.path, one.name, options.encoding)
    head = next(stream.blocks(path, "", HEAD), b"")
    if packed := stream.compression_of(head):
        head = next(stream.blocks(path, packed, HEAD), b"")
    return sniff.kind(head, one.name, ending_of(one.path), options.task)


def _lines(one: Input, options: LabelOptions) -> Read:
    return Read(one.name, lines.examples(lines.numbered(data(one.path, one.name, options.encoding)), one.name))


def _conll(one: Input, options: LabelOptions) -> Read:
    found = lines.numbered(data(one.path, one.name, options.encoding))
    return Read(one.name, conll.examples(found, one.name, options.columns))


def _table(one: Input, options: LabelOptions) -> Read:
    path = recoded(one.path, one.name, options.encoding)
    kind = options.format if options.format in ("csv", "tsv") else _kind(one, options)
    compression = stream.compression_of(next(stream.blocks(path, "", 4), b""))
    return _records(Source(one.name, path, kind, compression), options)  # type: ignore[arg-type]


def _json(one: Input, options: LabelOptions) -> Read:
    path = one.path if _is_parquet(one.path) else recoded(one.path, one.name, options.encoding)
    return _records(sources.source(path, one.name), options)


def _is_parquet(path: Path) -> bool:
    return next(stream.blocks(path, "", 4), b"").startswith(b"PAR1")


def _records(source: Source, options: LabelOptions) -> Read:
    found = list(read_records(source))
    first = [row.data for row in found if isinstance(row, Record) and isinstance(row.data, Mapping)]
    if not first and found:
        bad = next((f": {row.error}" for row in found if isinstance(row, Bad)), "")
        raise DataError(f"{found[0].source}{bad}: no row can be read; --encoding names another encoding than UTF-8")
    chosen = roles(first, options.columns, options.task, source.name)
    return Read(source.name, records.examples(found, chosen), chosen.said())


READERS: dict[str, Callable[[Input, LabelOptions], Read]] = {
    "json": _json,
    "csv": _table,
    "tsv": _table,
    "lines": _lines,
    "conll": _conll,
}
