"""Rows with labels -> the tensors that a model with a head takes: without padding where its layout allows, else padded."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nlpft.types import Layout

Row = Sequence[int] | np.ndarray  # token ids


def batch_of(
    rows: Sequence[Row],
    layout: Layout,
    read: Sequence[np.ndarray] | None = None,
    pair_starts: Row | None = None,
) -> dict[str, Tensor]:
    """`rows` of token ids as a batch; int64 where nothing else is said.

    read: of a layout that reads labelled tokens, their places in each row; not given: all. pair_starts: where each row's second
    text begins (0: it has none), for models that tell texts apart.

    input_ids       [1, time], packed; else [rows, longest], padded on the right
    position_ids    packed only: [1, time], from layout.first_position on in each row
    cu_seqlens      packed only: [rows + 1] int32, where each row begins and the last one ends
    max_seqlen      packed only: [] tokens of the longest row; stays on the host
    attention_mask  padded only: [rows, longest], 1 on tokens
    token_type_ids  as input_ids, 1 from pair_starts on; only where a row has a second text and layout.token_types
    positions       [targets] places that the head reads, in the flattened input_ids
    """
    lengths = np.array([len(row) for row in rows])
    longest, total = int(lengths.max()), int(lengths.sum())
    begins = np.concatenate(([0], np.cumsum(lengths))) if layout.packed else np.arange(len(rows) + 1) * longest
    shape = (1, total) if layout.packed else (len(rows), longest)
    tokens = np.repeat(begins[:-1], lengths) + _within(lengths)
    ids = np.full(shape, layout.pad_id, np.int64)
    ids.ravel()[tokens] = np.concatenate([np.asarray(row, np.int64) for row in rows])
    made = {"input_ids": ids, "positions": _positions(rows, layout, begins, read)}
    if layout.packed:
        made["position_ids"] = _within(lengths)[None] + layout.first_position
        made["cu_seqlens"], made["max_seqlen"] = begins.astype(np.int32), np.array(longest)
    else:
        made["attention_mask"] = np.zeros(shape, np.int64)
        made["attention_mask"].ravel()[tokens] = 1
    if layout.token_types and pair_starts is not None and any(pair_starts):
        starts = np.where(np.asarray(pair_starts) > 0, pair_starts, lengths)
        made["token_type_ids"] = np.zeros(shape, np.int64)
        made["token_type_ids"].ravel()[tokens] = _within(lengths) >= np.repeat(starts, lengths)
    return {name: torch.from_numpy(array) if array.ndim else torch.tensor(int(array)) for name, array in made.items()}


def _within(lengths: np.ndarray) -> np.ndarray:
    """Place of each token in its row, [tokens]."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _positions(
    rows: Sequence[Row], layout: Layout, begins: np.ndarray, read: Sequence[np.ndarray] | None
) -> np.ndarray:
    if layout.reads == "labelled":
        places = [np.arange(len(row)) for row in rows] if read is None else read
        return np.concatenate([start + at for start, at in zip(begins, places, strict=False)]).astype(np.int64)
    return np.array(
        [b + (_last(row, layout.pad_id) if layout.reads == "last" else 0) for row, b in zip(rows, begins, strict=False)]
    )


def _last(row: Row, pad_id: int) -> int:
    """Place of the last token that is not padding, as transformers' decoders with heads look for it."""
    return int(np.flatnonzero(np.asarray(row) != pad_id).max(initial=0))
