"""Rows of a tokenized dataset as text: what each token stands for, which are learnt, which are special."""

import itertools
import json
import unicodedata
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nlpft.data.columns import int32, values
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ModelError
from nlpft.types import IGNORE

INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # Unicode categories of what steers a terminal, a line or a direction
JOINERS = "\u200c\u200d"  # of category Cf, and part of ordinary words and emoji
LONGEST_CHARACTER = 4  # bytes, and so tokens


class Row(NamedTuple):
    """One row of a dataset."""

    place: str  # 'chats.json:17', or 'row 17' where the dataset does not say
    notes: str  # its repairs, joined by '; '
    ids: np.ndarray  # int32 [tokens]
    learnt: np.ndarray  # bool [tokens]


class Piece(NamedTuple):
    """Neighbouring tokens as text."""

    start: int  # position of the first
    ids: list[int]
    text: str
    learnt: bool
    special: bool


def row(table: pa.Table, number: int) -> Row:
    """Row `number` of a dataset, from 0."""
    ids, labels = (integers(table.column(name)[number].values) for name in ("input_ids", "labels"))
    place = cell(table, "source", number) or f"row {number + 1}"
    return Row(place, cell(table, "notes", number), ids, labels != IGNORE)


def cell(table: pa.Table, name: str, number: int) -> str:
    """The text of a column in row `number`; '' where there is none, or no text."""
    value = table.column(name)[number].as_py() if name in table.column_names else ""
    return value if isinstance(value, str) else ""


def integers(array: pa.Array | None) -> np.ndarray:
    """Integers [n] as int32: other programs write wider ones, and None for a row without any."""
    if array is None:
        return np.empty(0, np.int32)
    return values(array if array.type == pa.int32() else array.cast(pa.int32()))


def check(row: Row, tokenizer: TextTokenizer) -> None:
    """Raise ModelError where `row`'s ids cannot have come from this tokenizer."""
    for token in np.unique(row.ids).tolist():
        if spelling(token, tokenizer) is None:
            raise ModelError(
                f"{row.place}: the tokenizer in {tokenizer.folder} has no token {token}; "
                "name the model that the dataset was made with by --model"
            )


def spelling(token: int, tokenizer: TextTokenizer) -> bytes | str | None:
    """The bytes that an id stands for, or the vocabulary's entry where that is no matter of bytes; None for no such id."""
    known = tokenizer.vocabulary.token_bytes
    if known is None:
        return tokenizer.token_text(token)
    return known[token].as_py() or None if 0 <= token < len(known) else None


def runs(row: Row, tokenizer: TextTokenizer) -> list[Piece]:
    """`row` cut where what is learnt or special changes."""
    special = _special(row.ids, tokenizer)
    starts = np.flatnonzero((row.learnt[1:] != row.learnt[:-1]) | (special[1:] != special[:-1])) + 1
    return _pieces(row, special, starts, tokenizer)


def tokens(row: Row, tokenizer: TextTokenizer) -> list[Piece]:
    """`row` cut into tokens, of which those that share a character stay together."""
    special, apart = _special(row.ids, tokenizer), ~_continues(row.ids, tokenizer)[1:]
    apart |= (row.learnt[1:] != row.learnt[:-1]) | (special[1:] != special[:-1])
    return _pieces(row, special, np.flatnonzero(apart) + 1, tokenizer)


def quoted(row: Row, at: int, tokenizer: TextTokenizer) -> str:
    """Token `at` of `row` by itself: its text as a JSON string, the bytes of a part of a character, a special token as it is."""
    spelt = spelling(int(row.ids[at]), tokenizer)
    if int(row.ids[at]) in tokenizer.special.values():
        return visible(spelt.decode() if isinstance(spelt, bytes) else spelt or "")
    if not isinstance(spelt, bytes):
        text = _in_place(row.ids, at, at + 1, tokenizer)
        return visible(json.dumps(text, ensure_ascii=False) if "\ufffd" not in text else spelt or "")
    try:
        return visible(json.dumps(spelt.decode(), ensure_ascii=False))
    except UnicodeDecodeError:
        return repr(spelt)[2:-1]


def text_of(ids: np.ndarray, tokenizer: TextTokenizer) -> str:
    """The text of `ids`, without parts of characters."""
    if tokenizer.vocabulary.token_bytes is None:
        return tokenizer.decode(ids)
    return _bytes_of(ids, tokenizer)[0].decode(errors="ignore")


def visible(text: str) -> str:
    """`text` with control characters, marks of direction and the like spelt out, so that data cannot steer what shows it."""
    if text.isprintable():
        return text
    return "".join(repr(c)[1:-1] if c not in "\n\t" + JOINERS and _is_invisible(c) else c for c in text)


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in INVISIBLE


def _special(ids: np.ndarray, tokenizer: TextTokenizer) -> np.ndarray:
    return np.isin(ids, list(tokenizer.special.values()))


def _continues(ids: np.ndarray, tokenizer: TextTokenizer) -> np.ndarray:
    """Whether a token begins within a character, bool [tokens]."""
    if tokenizer.vocabulary.token_bytes is None:
        broken = np.array(["\ufffd" in tokenizer.decode(ids[i : i + 1]) for i in range(len(ids))], bool)
        return np.append(False, broken[1:] & broken[:-1])[: len(ids)]
    data, ends = _bytes_of(ids, tokenizer)
    firsts = np.frombuffer(data + b"\0", np.uint8)[ends[:-1]]
    return (firsts & 0xC0) == 0x80


def _pieces(row: Row, special: np.ndarray, starts: np.ndarray, tokenizer: TextTokenizer) -> list[Piece]:
    """`row` cut before each of `starts`; what lies between two is alike."""
    edges = [0, *starts.tolist(), len(row.ids)] if len(row.ids) else [0]
    texts = _texts(row.ids, edges, tokenizer)
    return [
        Piece(start, row.ids[start:end].tolist(), visible(text), bool(row.learnt[start]), bool(special[start]))
        for (start, end), text in zip(itertools.pairwise(edges), texts, strict=True)
    ]


def _texts(ids: np.ndarray, edges: list[int], tokenizer: TextTokenizer) -> list[str]:
    """Text between neighbouring `edges`; bytes that are no whole character are spelt out."""
    if tokenizer.vocabulary.token_bytes is None:
        return [_in_place(ids, start, end, tokenizer) for start, end in itertools.pairwise(edges)]
    data, ends = _bytes_of(ids, tokenizer)
    cuts = ends[edges].tolist()
    return [data[start:end].decode(errors="backslashreplace") for start, end in itertools.pairwise(cuts)]


def _bytes_of(ids: np.ndarray, tokenizer: TextTokenizer) -> tuple[bytes, np.ndarray]:
    """What `ids` stand for, and where each one's bytes end, int32 [tokens + 1], from 0."""
    if not len(ids):
        return b"", np.zeros(1, np.int32)
    _, ends, data = pc.take(tokenizer.vocabulary.token_bytes, int32(ids)).buffers()
    ends = np.frombuffer(ends, np.int32)[: len(ids) + 1]
    return bytes(memoryview(data)[: int(ends[-1])]) if data else b"", ends


def _in_place(ids: np.ndarray, start: int, end: int, tokenizer: TextTokenizer) -> str:
    """Text of `ids[start:end]` where they stand: by themselves some tokenizers' tokens lose the blank they begin with."""
    first = max(0, start - LONGEST_CHARACTER)
    before, whole = (tokenizer.decode(ids[first:stop]) for stop in (start, end))
    joins = before.endswith("\ufffd") or not whole.startswith(before)  # within a character
    return tokenizer.decode(ids[start:end]) if joins else whole[len(before) :]
