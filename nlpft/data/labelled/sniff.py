"""How a text file of labelled rows is written, told by its first lines: JSON, CSV, TSV, label and text, or CoNLL columns."""

import csv
import re
from collections.abc import Sequence
from typing import Literal

from nlpft.data.head import looks
from nlpft.data.labelled.lines import FASTTEXT
from nlpft.errors import DataError

Kind = Literal["json", "csv", "tsv", "lines", "conll"]
TAG = re.compile(r"(O|[BIESLUM]-\S+)")
LOOKED_AT = 2_000  # lines
MOST = 0.98  # of the lines that must agree


def kind(head: bytes, name: str, ending: str, task: str) -> Kind:
    """What the first bytes of a file, unpacked, look like. Raises DataError where that is nothing that nlpft reads."""
    if head.startswith(b"PAR1") or head.lstrip()[:1] in (b"[", b"{"):
        looks(head, name, ending, "auto", False)
        return "json"
    lines = [line for line in head.decode("utf-8", "replace").split("\n")[:LOOKED_AT] if line.strip()]
    if not lines:
        raise DataError(f"{name}: the file is empty")
    if is_conll(lines) or (task == "tag" and ending not in (".csv", ".tsv")):
        return "conll"
    if ending in (".csv", ".tsv"):
        return "csv" if ending == ".csv" else "tsv"
    if _share([line.count("\t") for line in lines]) >= MOST and "\t" in lines[0]:
        return "tsv"
    if _has_labels(lines):
        return "lines"
    if "," in lines[0] and _share([len(row) for row in csv.reader(lines)]) >= MOST:
        return "csv"
    raise DataError(
        f"{name}:1: neither JSON, a table, CoNLL columns, nor lines that begin with a label; "
        "name it by --format csv, tsv, lines or conll"
    )


def is_conll(lines: Sequence[str]) -> bool:
    """Whether each line has as many fields as the others and ends in a tag such as O or B-PER."""
    rows = [line.split() for line in lines if not line.startswith(("#", "-DOCSTART-"))]
    tagged = [row for row in rows if len(row) > 1 and TAG.fullmatch(row[-1])]
    outside = sum(row[-1] == "O" for row in tagged)
    return len(tagged) >= 0.8 * len(rows) > 0 and outside > 0 and _share([len(row) for row in tagged]) >= 0.9


def _share(numbers: Sequence[int]) -> float:
    """Share of the most frequent number."""
    return max((numbers.count(number) for number in set(numbers)), default=0) / max(1, len(numbers))


def _has_labels(lines: Sequence[str]) -> bool:
    """Whether first words come again and again, in front of a text."""
    first = [line.split(None, 1) for line in lines]
    if sum(len(parts) == 2 for parts in first) < MOST * len(first):
        return False
    names = {parts[0] for parts in first}
    return len(names) <= max(2, len(lines) / 4) or all(name.startswith(FASTTEXT) for name in names)
