"""Lines of a label, a blank and a text, as SST and TREC come; also fastText's `__label__a __label__b text`."""

from collections.abc import Iterable, Iterator

from nlpft.data.labelled.example import Example, Row
from nlpft.data.labelled.records import NO_LABEL, check_texts
from nlpft.data.ledger import Rejection
from nlpft.data.rows import NOT_UTF8
from nlpft.errors import RowRejected

FASTTEXT = "__label__"


def numbered(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(number from 1, offset, content without its end) of each line."""
    offset = 0
    for number, line in enumerate(data.split(b"\n"), 1):
        yield number, offset, line.removesuffix(b"\r")
        offset += len(line) + 1


def examples(lines: Iterable[tuple[int, int, bytes]], name: str) -> list[Row]:
    """An example for each line that is not blank, or why it is none."""
    return [_example(line, f"{name}:{number}", offset) for number, offset, line in lines if line.strip()]


def _example(raw: bytes, source: str, offset: int) -> Row:
    try:
        line = decoded(raw)
        label, text = labels(line)
        check_texts(text)
        return Example(source, text, None, label, offset=offset, row=line)
    except RowRejected as why:
        return Rejection(source, offset, "", why, raw.decode("utf-8", "backslashreplace"))


def decoded(raw: bytes) -> str:
    """UTF-8 as text. Raises RowRejected naming the byte that is none."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RowRejected(NOT_UTF8, f"byte 0x{raw[error.start]:02x} at {error.start}") from None


def labels(line: str) -> tuple[str | list[str], str]:
    """(label, text) of a line; several labels, as fastText writes them, are a list. Raises RowRejected."""
    first, _, rest = line.strip().partition(" ")
    if "\t" in first:
        first, _, rest = line.strip().partition("\t")
    if not first.startswith(FASTTEXT):
        return first, rest.strip()
    found = []
    while first.startswith(FASTTEXT):
        found.append(first.removeprefix(FASTTEXT))
        first, _, rest = rest.strip().partition(" ")
    if not all(found):
        raise RowRejected(NO_LABEL, line.strip()[:60])
    return found if len(found) > 1 else found[0], f"{first} {rest}".strip()
