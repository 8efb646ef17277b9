"""Words -> pieces: each word is encoded by itself, as it stands in running text, so a piece never spans two words.

A blank goes before a word where writing puts one: not before the first, and not beside a character of a script without blanks
(Chinese, Japanese, Thai ...). A word that the tokenizer drops becomes its unknown token and keeps its tag.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nlpft.data.engines import Encoded
from nlpft.data.labelled import encode
from nlpft.data.labelled.encode import Frame, offsets
from nlpft.data.select.words import NO_BLANKS
from nlpft.data.tokenizer import TextTokenizer


class Words(NamedTuple):
    """Sentences as pieces of their words, before special tokens."""

    texts: list[str]  # different words as they are encoded, blanks included
    pieces: Encoded  # of `texts`
    places: np.ndarray  # int64 [words]: which of `texts` each word is
    sizes: np.ndarray  # int64 [sentences]: words of each
    unknown: int  # token that stands for a word without pieces; -1: there is none

    @property
    def vanished(self) -> np.ndarray:
        """Whether a word gives no piece, bool [texts]."""
        return self.pieces.lengths == 0


class Aligned(NamedTuple):
    """Rows of ids, and which word each is of."""

    ids: np.ndarray  # int32 [tokens]
    offsets: np.ndarray  # int64 [rows + 1]
    first: np.ndarray  # bool [tokens]: the first piece of a word
    words: np.ndarray  # int64 [rows]: words that fit
    lost: np.ndarray  # int64 [rows]: tokens that did not


def encode_words(sentences: Sequence[Sequence[str]], tokenizer: TextTokenizer) -> Words:
    """The pieces of each different word."""
    numbers: dict[str, int] = {}
    first = encode.at_start([words[0] for words in sentences], tokenizer)
    rows = zip(sentences, first, strict=True)
    places = [numbers.setdefault(text, len(numbers)) for words, start in rows for text in in_text(words, start)]
    texts = list(numbers)
    sizes = np.fromiter(map(len, sentences), np.int64, len(sentences))
    return Words(texts, tokenizer.encode(texts), np.array(places, np.int64), sizes, tokenizer.vocabulary.unknown)


def in_text(words: Sequence[str], first: str) -> list[str]:
    """The words with the blanks of running text before them; `first`: the first one as it is encoded."""
    out = [first]
    for before, word in itertools.pairwise(words):
        joined = _without_blanks(before[-1:]) or _without_blanks(word[:1])
        out.append(word if joined else f" {word}")
    return out


def _without_blanks(char: str) -> bool:
    """Whether a character is of a script that parts no words."""
    return not char.isascii() and any(first <= ord(char) <= last for first, last in NO_BLANKS)


def aligned(words: Words, around: Frame, longest: int | None) -> Aligned:
    """Rows with special tokens; of a row that is longer than `longest` tokens the last words go.

    A first word that alone is too long loses pieces. `words` has no vanished word unless it has an unknown token.
    """
    room = (longest or 1 << 40) - around.size
    ids, starts, counts = _word_pieces(words)
    edges = offsets(words.sizes)
    ends = np.cumsum(counts[words.places], dtype=np.int64)  # [words]: pieces up to here, over all rows
    before = np.concatenate(([0], ends))[edges[:-1]]
    fits = ends - np.repeat(before, words.sizes) <= room
    first_words = np.zeros(len(fits), bool)
    first_words[edges[:-1][words.sizes > 0]] = True
    taken = fits | first_words
    sizes = np.where(taken, counts[words.places], 0)
    sizes = np.where(first_words, np.minimum(sizes, room), sizes)
    places, first = _places(starts[words.places], sizes)
    per_row = np.diff(np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))[edges])
    whole = np.diff(np.concatenate(([0], ends))[edges])
    return _framed(ids[places], first, per_row, around, _sums(taken, edges), whole - per_row)


def _word_pieces(words: Words) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, and where each word's begin and how many they are; a vanished word has the unknown token."""
    ids = np.append(words.pieces.ids, np.int32(words.unknown))
    starts, counts = offsets(words.pieces.lengths)[:-1].copy(), words.pieces.lengths.copy()
    starts[words.vanished], counts[words.vanished] = len(ids) - 1, 1
    return ids, starts, counts


def _places(starts: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the pieces of words stand, one word after the other, and which of them is a word's first."""
    ends = np.cumsum(sizes, dtype=np.int64)
    begins = ends - sizes
    total = int(ends[-1]) if len(ends) else 0
    places = np.arange(total) + np.repeat(starts - begins, sizes)
    first = np.zeros(total, bool)
    first[begins[sizes > 0]] = True
    return places, first


def _sums(mask: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.diff(np.concatenate(([0], np.cumsum(mask, dtype=np.int64)))[edges])


def _framed(
    ids: np.ndarray, first: np.ndarray, sizes: np.ndarray, around: Frame, words: np.ndarray, lost: np.ndarray
) -> Aligned:
    """The rows with their special tokens around them."""
    edges = offsets(sizes)
    left, right = len(around.before), len(around.behind)
    rows = offsets(sizes + left + right)
    place = np.arange(len(ids)) + np.repeat(rows[:-1] + left - edges[:-1], sizes)
    out, out_first = np.empty(int(rows[-1]), np.int32), np.zeros(int(rows[-1]), bool)
    out[place], out_first[place] = ids, first
    for i, token in enumerate(around.before):
        out[rows[:-1] + i] = token
    for i, token in enumerate(around.behind):
        out[rows[1:] - right + i] = token
    return Aligned(out, rows, out_first, words, lost)
