"""Parallel files: words, tags and labels line by line in seq.in, seq.out and label (SNIPS, ATIS; Goo et al. 2018)."""

from collections.abc import Callable
from pathlib import Path

from nlpft.data.labelled.example import Example, Read, Row
from nlpft.data.labelled.inputs import PARALLEL, Input, data
from nlpft.data.labelled.lines import decoded, numbered
from nlpft.data.labelled.options import LabelOptions
from nlpft.data.labelled.records import NO_LABEL, check_texts, sentence
from nlpft.data.ledger import Rejection
from nlpft.errors import DataError, RowRejected

WORDS, TAGS, LABELS = PARALLEL


def read(one: Input, options: LabelOptions) -> Read:
    """A row for each line of seq.in, with its tags or, for the task 'classify', its label.

    Raises DataError where a file is missing or the files do not have equally many lines.
    """
    second = LABELS if options.task == "classify" else TAGS
    lines = [_lines(one.path / name, options.encoding) for name in (WORDS, second)]
    if len(lines[0]) != len(lines[1]):
        counts = f"{WORDS} has {len(lines[0]):,} lines, {second} {len(lines[1]):,}"
        raise DataError(f"{one.path}: {counts}; a line of each makes a row")
    name = f"{one.name}/{WORDS}"
    make = _labelled if options.task == "classify" else _tagged
    rows = [_row(words, other, name, make) for words, (_, _, other) in zip(*lines, strict=True)]
    return Read(name, rows, f"{WORDS} with {second}")


def _lines(path: Path, encoding: str) -> list[tuple[int, int, bytes]]:
    found = list(numbered(data(path, str(path), encoding)))
    return found[:-1] if found and not found[-1][2] else found


def _row(line: tuple[int, int, bytes], other: bytes, name: str, make: Callable[..., Example]) -> Row:
    number, offset, words = line
    source, raw = f"{name}:{number}", words + b"\n" + other
    try:
        return make(source, decoded(words), decoded(other), offset)
    except RowRejected as why:
        return Rejection(source, offset, "", why, raw.decode("utf-8", "backslashreplace"))


def _labelled(source: str, text: str, label: str, offset: int) -> Example:
    check_texts(text)
    if not label.strip():
        raise RowRejected(NO_LABEL)
    return Example(source, text.strip(), None, label.strip(), offset=offset, row=f"{text}\n{label}")


def _tagged(source: str, words: str, tags: str, offset: int) -> Example:
    return sentence(source, words.split(), tags.split(), offset, f"{words}\n{tags}")
