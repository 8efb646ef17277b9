"""CoNLL columns: a word and its tag on a line, a blank line behind each sentence (Tjong Kim Sang & De Meulder 2003)."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from nlpft.data.labelled.example import Row
from nlpft.data.labelled.lines import decoded
from nlpft.data.labelled.options import LabelColumns
from nlpft.data.labelled.records import sentence
from nlpft.data.ledger import Rejection
from nlpft.errors import ConfigError, RowRejected

FRAME = "-DOCSTART-"  # begins a document
NO_TAG = "a word without a tag"


class Line(NamedTuple):
    """A line of a sentence."""

    number: int
    offset: int
    raw: bytes


def examples(lines: Iterable[tuple[int, int, bytes]], name: str, columns: LabelColumns) -> list[Row]:
    """An example for each sentence, or why it is none; its source is the line of its first word."""
    word, tag = _place(columns.words, 0, "words"), _place(columns.tags, -1, "tags")
    return [_sentence(block, name, word, tag) for block in _blocks(lines)]


def _place(given: str | None, default: int, role: str) -> int:
    """The number of a column."""
    try:
        return default if given is None else int(given)
    except ValueError:
        raise ConfigError(f"columns.{role} {given!r}: columns of CoNLL files are numbers, the first is 0") from None


def _blocks(lines: Iterable[tuple[int, int, bytes]]) -> Iterator[list[Line]]:
    """The lines between blank ones, without frames and comments (a # that no other field follows, or that a blank follows)."""
    block: list[Line] = []
    for number, offset, raw in lines:
        line = raw.strip()
        if line and not _is_comment(line):
            if not line.startswith(FRAME.encode()):
                block.append(Line(number, offset, raw))
        elif not line and block:
            yield block
            block = []
    if block:
        yield block


def _is_comment(line: bytes) -> bool:
    """'# sent_id = 3' and '# text', but not the word '#' with its tag."""
    return line.startswith(b"# ") and b"\t" not in line and (b" = " in line or len(line.split()) != 2)


def _sentence(block: list[Line], name: str, word: int, tag: int) -> Row:
    source, offset = f"{name}:{block[0].number}", block[0].offset
    raw = b"\n".join(line.raw for line in block)
    try:
        rows = [_fields(line, word, tag, name) for line in block]
        return sentence(source, [row[word] for row in rows], [row[tag] for row in rows], offset, raw.decode())
    except RowRejected as why:
        return Rejection(source, offset, "", why, raw.decode("utf-8", "backslashreplace"))


def _fields(line: Line, word: int, tag: int, name: str) -> list[str]:
    """The fields of a line, parted by tabs where it has any, else by blanks. Raises RowRejected where one is missing."""
    text = decoded(line.raw).strip("\r\n ")
    fields = [field.strip(" ") for field in text.split("\t")] if "\t" in text else text.split()
    if len(fields) < 2 or not -len(fields) <= min(word, tag) <= max(word, tag) < len(fields) or not fields[tag]:
        raise RowRejected(NO_TAG, f"{name}:{line.number}: {text[:60]!r}")
    return fields
