"""Texts and pairs -> ids within the special tokens of the tokenizer's own template, as it makes them for the model's serving.

A decoder's template mostly ends with the text; there the end-of-sequence token closes the row, so that every row's last state,
which a classifier reads, is that of the same token. Where a template puts nothing between two texts, a line break does.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nlpft.data.engines import Encoded
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ConfigError

BETWEEN = "\n"


class Frame(NamedTuple):
    """The special tokens around one text, or around two: int32 ids."""

    before: np.ndarray
    between: np.ndarray  # none for one text
    behind: np.ndarray

    @property
    def size(self) -> int:
        """Tokens."""
        return sum(map(len, self))


class Pieces(NamedTuple):
    """Rows of ids, one behind the other."""

    ids: np.ndarray  # int32 [tokens]
    offsets: np.ndarray  # int64 [rows + 1]
    pair_start: np.ndarray  # int32 [rows]: where the second text begins; 0: there is none
    lost: np.ndarray  # int64 [rows]: tokens that did not fit


def frame(tokenizer: TextTokenizer, pairs: bool = False) -> Frame:
    """The template of special tokens, read off an example."""
    ids, of = tokenizer.framed("a", "b" if pairs else None)
    first = [i for i, text in enumerate(of) if text == 0]
    second = [i for i, text in enumerate(of) if text == 1] or [len(ids)]
    before, behind = ids[: first[0]], ids[second[-1] + 1 :] if pairs else ids[first[-1] + 1 :]
    between = ids[first[-1] + 1 : second[0]] if pairs else []
    if pairs and not between:
        between = tokenizer.encode([BETWEEN]).ids.tolist()
    end = tokenizer.special.get(tokenizer.token("eos_token"))
    if not behind and end is not None:
        behind = [end]
    return Frame(*(np.array(part, np.int32) for part in (before, between, behind)))


def limit(tokenizer: TextTokenizer, asked: int | None) -> int | None:
    """The longest row in tokens: what is asked for, what the model sees, or None. Raises ConfigError where it sees less."""
    own = tokenizer.settings.get("model_max_length")
    sizes = [size for size in (own, tokenizer.context) if isinstance(size, int) and 0 < size < 1 << 30]
    sees = min(sizes, default=None)
    if asked is not None and sees is not None and asked > sees:
        raise ConfigError(f"max_length {asked}: the model sees {sees} tokens; lower it")
    return asked or sees


def encode(texts: Sequence[str], tokenizer: TextTokenizer) -> Encoded:
    """Ids of whole texts, without special tokens."""
    return tokenizer.encode(at_start(texts, tokenizer))


def at_start(texts: Sequence[str], tokenizer: TextTokenizer) -> list[str]:
    """Texts as they are to be encoded at the beginning of a row: some SentencePiece models put a blank before each, others only
    where there is none."""
    blank = tokenizer.at_start("")
    if not blank:
        return list(texts)
    always = tokenizer.served(f"{blank}word") != tokenizer.served("word")
    return [blank + text if always or not text.startswith(blank) else text for text in texts]


def framed(first: Encoded, second: Encoded | None, around: Frame, longest: int | None) -> Pieces:
    """Rows out of texts, or of pairs; what is longer than `longest` tokens loses its end, of a pair the longer text's.

    Raises ConfigError where `longest` leaves no room for a text.
    """
    room = (longest or 1 << 40) - around.size
    if room < (2 if second else 1):
        raise ConfigError(f"max_length {longest}: no room for a text beside {around.size} special tokens; raise it")
    others = second.lengths if second else np.zeros(len(first.lengths), np.int64)
    keep_first, keep_second = kept(first.lengths, others, room)
    runs = _runs(first, keep_first)
    begins = np.zeros(len(runs), np.int32)
    if second:
        begins = (len(around.before) + keep_first + len(around.between)).astype(np.int32)
        rows = zip(runs, _runs(second, keep_second), strict=True)
        parts = [part for a, b in rows for part in (around.before, a, around.between, b, around.behind)]
    else:
        parts = [part for a in runs for part in (around.before, a, around.behind)]
    lengths = around.size + keep_first + keep_second
    ids = np.concatenate([np.empty(0, np.int32), *parts])
    return Pieces(ids, offsets(lengths), begins, first.lengths + others - keep_first - keep_second)


def kept(first: np.ndarray, second: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """How many tokens of each text stay: the longer one is cut down to the other before both are."""
    over = first + second > room
    half = room // 2
    short_second = np.minimum(second, np.maximum(half, room - first))
    short_first = np.minimum(first, room - short_second)
    return np.where(over, short_first, first), np.where(over, short_second, second)


def offsets(lengths: np.ndarray) -> np.ndarray:
    """Where rows of these lengths begin and end, int64 [rows + 1]."""
    return np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))


def _runs(encoded: Encoded, keep: np.ndarray) -> list[np.ndarray]:
    starts = offsets(encoded.lengths)[:-1].tolist()
    return [encoded.ids[start : start + size] for start, size in zip(starts, keep.tolist(), strict=True)]
