"""Proof, for every row of a batch, that the model is trained on exactly what it should be: vectorised, and by other means.

The ids are decoded by the vocabulary's own bytes and compared with the rendered text; the learnt ids with the answers and their
ends of turn; learnt runs and special tokens are counted. Nothing here knows how ids and labels were made.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from nlpft.data.columns import int32
from nlpft.data.tokenize import Row, Tokens, fill
from nlpft.data.tokenizer import TextTokenizer
from nlpft.types import IGNORE

LOST_BYTES = "bytes that the vocabulary lacks"  # the text without them is what the ids stand for
WRONG_TEXT = "ids do not decode to the text"
WRONG_MASK = "mask not proven"


class Decoded(NamedTuple):
    """The bytes that a batch's ids stand for."""

    data: bytes
    ends: np.ndarray  # int32 [tokens + 1]: where each token's bytes end, from 0


def unproven(tokens: Tokens, rows: Sequence[Row], tokenizer: TextTokenizer) -> dict[int, str]:
    """What is wrong, by number of the row: LOST_BYTES, WRONG_TEXT or WRONG_MASK; {} where every row is proven."""
    learnt = tokens.labels != IGNORE
    starts, ends = _runs(learnt, tokens.offsets)
    wrong = dict.fromkeys(_wrong_counts(tokens, rows, starts, tokenizer), WRONG_MASK)
    if not np.array_equal(tokens.labels[learnt], tokens.ids[learnt]):
        bad = np.flatnonzero(learnt & (tokens.labels != tokens.ids))
        wrong |= dict.fromkeys((np.searchsorted(tokens.offsets, bad, "right") - 1).tolist(), WRONG_MASK)
    if tokenizer.vocabulary.token_bytes is None:  # it does not keep bytes: what can be counted has been counted
        unknown = np.flatnonzero(tokens.ids == tokenizer.vocabulary.unknown)
        lost = dict.fromkeys((np.searchsorted(tokens.offsets, unknown, "right") - 1).tolist(), LOST_BYTES)
        return lost | wrong
    decoded = _decode(tokens.ids, tokenizer)
    answers = [fill(row.plan.learnt, row.contents) for row in rows]
    of_row = np.searchsorted(starts, tokens.offsets)  # [rows + 1]: the first learnt run of each row
    learnt_bytes, edges = _learnt_bytes(decoded, starts, ends, of_row)
    for row, reason in _differing(learnt_bytes, edges, answers, tokenizer).items():
        wrong.setdefault(row, LOST_BYTES if reason == LOST_BYTES else WRONG_MASK)
    texts = [fill(row.plan.rendering, row.contents) for row in rows]
    for row, reason in _differing(decoded.data, decoded.ends[tokens.offsets], texts, tokenizer).items():
        if reason == WRONG_TEXT:  # a mask over other text says nothing
            wrong[row] = WRONG_TEXT
        else:
            wrong.setdefault(row, reason)
    return wrong


def _runs(learnt: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where runs of learnt tokens begin and end, int64 [runs] each; none goes over the edge of a row."""
    before = np.empty_like(learnt)
    before[:1], before[1:] = False, learnt[:-1]
    before[offsets[:-1][offsets[:-1] < len(learnt)]] = False
    behind = np.empty_like(learnt)
    behind[-1:], behind[:-1] = False, learnt[1:]
    behind[offsets[1:][offsets[1:] > 0] - 1] = False
    return np.flatnonzero(learnt & ~before), np.flatnonzero(learnt & ~behind) + 1


def _wrong_counts(tokens: Tokens, rows: Sequence[Row], starts: np.ndarray, tokenizer: TextTokenizer) -> list[int]:
    """Rows whose learnt runs are not as many as their answers, or that have other special tokens than the template's own."""
    specials = np.flatnonzero(tokenizer.vocabulary.is_special[tokens.ids])
    found = np.stack([np.diff(np.searchsorted(places, tokens.offsets)) for places in (starts, specials)], 1)
    expected = np.array([(row.plan.answers, row.plan.specials) for row in rows], np.int64).reshape(-1, 2)
    return np.flatnonzero((found != expected).any(1)).tolist()


def _decode(ids: np.ndarray, tokenizer: TextTokenizer) -> Decoded:
    if not len(ids):
        return Decoded(b"", np.zeros(1, np.int32))
    _, ends, data = pc.take(tokenizer.vocabulary.token_bytes, int32(ids)).buffers()
    ends = np.frombuffer(ends, np.int32)[: len(ids) + 1]
    return Decoded(bytes(memoryview(data)[: int(ends[-1])]) if data else b"", ends)


def _learnt_bytes(
    decoded: Decoded, starts: np.ndarray, ends: np.ndarray, of_row: np.ndarray
) -> tuple[bytes, np.ndarray]:
    """What the learnt tokens stand for, and where each row's part begins and ends in it, int64 [rows + 1]."""
    firsts, lasts = decoded.ends[starts], decoded.ends[ends]
    edges = np.concatenate(([0], np.cumsum(lasts - firsts, dtype=np.int64)))
    runs = zip(firsts.tolist(), lasts.tolist(), strict=True)
    return b"".join([decoded.data[first:last] for first, last in runs]), edges[of_row]


def _differing(found: bytes, edges: np.ndarray, texts: Sequence[str], tokenizer: TextTokenizer) -> dict[int, str]:
    """LOST_BYTES or WRONG_TEXT by number of the row, where `found`, cut at `edges` [rows + 1], are not the bytes of `texts`."""
    expected = [text.encode() for text in texts]
    if np.array_equal(np.diff(edges), np.fromiter(map(len, expected), np.int64)) and found == b"".join(expected):
        return {}
    wrong = {}
    for i, (start, end) in enumerate(itertools.pairwise(edges.tolist())):
        ours = found[start:end]
        if ours == expected[i]:
            continue
        text = tokenizer.normalized(texts[i]).encode()
        if ours != text:
            wrong[i] = LOST_BYTES if ours == text.translate(None, tokenizer.vocabulary.lacking) else WRONG_TEXT
    return wrong
