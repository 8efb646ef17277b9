"""Proof, for every row of a batch, that the model is trained on exactly what it should be: vectorised, and by other means.

The ids are decoded by the vocabulary's own bytes and compared with the rendered text; the learnt ids with the answers and their
ends of turn; learnt runs and special tokens are counted. Nothing here knows how ids and labels were made.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc

from nlpft.data.columns import int32
from nlpft.data.tokenize import Row, Tokens, fill
from nlpft.data.tokenizer import TextTokenizer
from nlpft.types import IGNORE

WRONG_TEXT = "bytes that the vocabulary lacks"
WRONG_MASK = "mask not proven"


def unproven(tokens: Tokens, rows: Sequence[Row], tokenizer: TextTokenizer) -> dict[int, str]:
    """What is wrong, by number of the row: WRONG_TEXT or WRONG_MASK; {} where every row is proven."""
    wrong = dict.fromkeys(np.flatnonzero(_wrong_counts(tokens, rows, tokenizer)).tolist(), WRONG_MASK)
    learnt = tokens.labels != IGNORE
    if not np.array_equal(tokens.labels[learnt], tokens.ids[learnt]):
        bad = np.flatnonzero(learnt & (tokens.labels != tokens.ids))
        wrong |= dict.fromkeys((np.searchsorted(tokens.offsets, bad, "right") - 1).tolist(), WRONG_MASK)
    if tokenizer.token_bytes is None:
        return wrong  # the vocabulary does not keep bytes: what can be counted has been counted
    before = np.concatenate(([0], np.cumsum(learnt)))[tokens.offsets]
    answers = [fill(row.plan.learnt, row.contents) for row in rows]
    for row in _differing(tokens.ids[learnt], before, answers, tokenizer):
        wrong[row] = WRONG_MASK
    texts = [fill(row.plan.rendering, row.contents) for row in rows]
    for row in _differing(tokens.ids, tokens.offsets, texts, tokenizer):
        wrong[row] = WRONG_TEXT  # a mask over other text says nothing
    return wrong


def _wrong_counts(tokens: Tokens, rows: Sequence[Row], tokenizer: TextTokenizer) -> np.ndarray:
    """Rows whose learnt runs are not as many as their answers, or that have other special tokens than the template's own."""
    learnt = tokens.labels != IGNORE
    begins = learnt.copy()
    begins[1:] &= ~learnt[:-1]
    begins[tokens.offsets[:-1][np.diff(tokens.offsets) > 0]] = learnt[tokens.offsets[:-1][np.diff(tokens.offsets) > 0]]
    expected = np.array([(row.plan.answers, row.plan.specials) for row in rows], np.int64).reshape(-1, 2)
    found = np.stack([_by_row(begins, tokens.offsets), _by_row(tokenizer.is_special[tokens.ids], tokens.offsets)], 1)
    return (found != expected).any(1)


def _by_row(flags: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """How many of `flags` [tokens] are set in each row, [rows]."""
    before = np.concatenate(([0], np.cumsum(flags)))
    return np.diff(before[offsets])


def _differing(ids: np.ndarray, offsets: np.ndarray, texts: Sequence[str], tokenizer: TextTokenizer) -> list[int]:
    """Rows of `ids`, cut at `offsets` [rows + 1], that do not decode to `texts`, byte for byte."""
    decoded = pc.take(tokenizer.token_bytes, int32(ids))
    if len(ids):
        _, ends_buffer, data_buffer = decoded.buffers()
        byte_ends = np.frombuffer(ends_buffer, np.int32)[: len(ids) + 1]
        data = memoryview(data_buffer)[: int(byte_ends[-1])] if data_buffer else memoryview(b"")
    else:
        byte_ends, data = np.zeros(1, np.int32), memoryview(b"")
    row_ends = byte_ends[offsets].tolist()
    encoded = [text.encode() for text in texts]
    if row_ends == np.cumsum([0, *map(len, encoded)]).tolist() and data == b"".join(encoded):
        return []
    found = [bytes(data[start:end]) for start, end in itertools.pairwise(row_ends)]
    return [
        i
        for i, (ours, text) in enumerate(zip(found, texts, strict=True))
        if ours != encoded[i] and ours != tokenizer.normalized(text).encode()
    ]
