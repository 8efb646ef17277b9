"""Input files -> rows: which reader a file needs, and what it gives."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nlpft.data import sources, stream, tables
from nlpft.data.labelled import conll, lines, parallel, records, saved, sniff
from nlpft.data.labelled.columns import roles
from nlpft.data.labelled.example import Read
from nlpft.data.labelled.inputs import Input, data, is_saved, recoded
from nlpft.data.labelled.options import LabelOptions
from nlpft.data.read import read as read_records
from nlpft.data.rows import Bad
from nlpft.data.sources import Source, ending_of
from nlpft.errors import DataError
from nlpft.types import Record

HEAD = 1 << 20  # bytes looked at
FOLDER = "folder"  # the kind of an input that is one


def read_all(found: Sequence[Input], options: LabelOptions) -> list[Read]:
    """All rows of the inputs, each an example or why it is none.

    A file whose content does not tell how it is written is taken to be like the others. Raises DataError where none tells, a
    file cannot be read, or its columns are not found.
    """
    kinds = [_kind(one, options) for one in found]
    told = next((kind for kind in kinds if kind not in (None, FOLDER)), None)
    return [_read(one, kind or told, options) for one, kind in zip(found, kinds, strict=True)]


def _read(one: Input, kind: str | None, options: LabelOptions) -> Read:
    if kind is None:
        raise DataError(
            f"{one.name}:1: neither JSON, a table, CoNLL columns, nor lines that begin with a label; "
            "name it by --format csv, tsv, lines or conll"
        )
    if kind == FOLDER:
        return (saved.read if is_saved(one.path) else parallel.read)(one, options)
    return _table(one, kind, options) if kind in tables.DELIMITERS else READERS[kind](one, options)


def _kind(one: Input, options: LabelOptions) -> str | None:
    """How an input is written; None where that cannot be told."""
    if one.path.is_dir():
        return FOLDER
    if options.format != "auto":
        return options.format
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


def _table(one: Input, kind: str, options: LabelOptions) -> Read:
    path = recoded(one.path, one.name, options.encoding)
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
    "lines": _lines,
    "conll": _conll,
}
