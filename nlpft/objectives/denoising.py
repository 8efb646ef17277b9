"""Text infilling: an encoder-decoder writes the spans that were cut out (Lewis et al. 2020, BART; Raffel et al. 2020, T5)."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from nlpft.data.loader import Corrupt
from nlpft.data.pack import rectangles as PLAN
from nlpft.errors import ConfigError
from nlpft.models.encoder_decoder import loss, start_token
from nlpft.objectives._hidden import is_text, mask_id, rows_of
from nlpft.types import IGNORE

__all__ = ["KIND", "PLAN", "Config", "build", "corruption", "num_targets"]

KIND = "encoder-decoder"
SENTINEL = re.compile(r"<extra_id_(\d+)>")  # as T5's vocabularies call them


@dataclass(frozen=True)
class Config:
    name: Literal["denoising"] = "denoising"
    rate: float | None = None
    """Share of a row's tokens that is cut out (default: 0.15 with sentinels, 0.3 with the mask token)."""
    span: float = 3.0
    """Mean tokens of a span; its length is drawn from Poisson's distribution."""
    marks: Literal["auto", "sentinels", "mask"] = "auto"
    """What stands in place of a span: a sentinel of its own, and the decoder writes the spans (T5), or the mask token, and it
    writes all of the text (BART). auto: sentinels where the vocabulary has them."""


class Example(NamedTuple):
    """One row as the model gets it."""

    shown: np.ndarray  # ids that the encoder reads
    written: np.ndarray  # ids that the decoder is to write


def build(config: Config, model: nn.Module) -> Callable[[nn.Module, dict[str, Tensor]], Tensor]:
    check(config)
    return loss


def num_targets(batch: dict[str, Tensor]) -> Tensor:
    return torch.count_nonzero(batch["targets"] != IGNORE)


def check(config: Config) -> None:
    """Raise ConfigError for numbers that mean nothing."""
    if config.rate is not None and not 0 < config.rate < 1:
        raise ConfigError(f"objective.rate {config.rate}: a share above 0 and below 1")
    if not config.span > 0:
        raise ConfigError(f"objective.span {config.span}: a number of tokens above 0")


def corruption(config: Config, model: Any, tokenizer: Any) -> Corrupt:
    """Padded batches of rows with spans cut out. Raises ConfigError where the tokenizer has no token to mark them with."""
    check(config)
    sentinels, text = sentinel_ids(tokenizer), is_text(tokenizer)
    if config.marks == "sentinels" and len(sentinels) < 2:
        raise ConfigError("objective.marks sentinels: the vocabulary has no <extra_id_0>, <extra_id_1> ...; set mask")
    by_sentinels = len(sentinels) > 1 and config.marks != "mask"
    rate = config.rate or (0.15 if by_sentinels else 0.3)
    mask = -1 if by_sentinels else mask_id(tokenizer, config.name)
    start, pad = start_token(model), tokenizer.pad_token_id or 0
    end = np.array([tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else [], np.int64)

    def example(row: np.ndarray, draw: np.random.Generator) -> Example:
        places = np.flatnonzero(text[row])
        lengths = span_lengths(len(places), rate, config.span, draw)
        if by_sentinels:
            cut = spans(places, lengths[lengths > 0][: len(sentinels) - 1], draw)
            return with_sentinels(row, cut, sentinels, end)
        return Example(replaced(row, spans(places, lengths, draw), [mask] * len(lengths)), row)

    def corrupt(batch: dict[str, Tensor], rows: Sequence[int], place: tuple[int, ...]) -> dict[str, Tensor]:
        ids = batch["input_ids"][0].numpy()
        return padded([example(ids[where], draw) for where, draw in rows_of(batch, rows, place)], start, pad)

    return corrupt


def sentinel_ids(tokenizer: Any) -> list[int]:
    """Ids of the sentinels, by their numbers."""
    found = {int(m[1]): i for token, i in tokenizer.get_vocab().items() if (m := SENTINEL.fullmatch(token))}
    return [found[number] for number in sorted(found)]


def span_lengths(tokens: int, rate: float, mean: float, draw: np.random.Generator) -> np.ndarray:
    """Lengths of spans, Poisson's, that have `rate` of `tokens` in all (rounded, at least one); a length of 0 adds a mark.

    There are never more marks than tokens cut out: a corrupted row is no longer than it was.
    """
    wanted = max(1, round(rate * tokens)) if tokens else 0
    drawn: list[int] = []
    while sum(drawn) < wanted:
        drawn.append(min(int(draw.poisson(mean)), wanted - sum(drawn)))
    lengths = np.array(drawn, np.int64)
    room = wanted - int((lengths > 0).sum())
    return lengths[(lengths > 0) | ((lengths == 0).cumsum() <= room)]


def spans(places: np.ndarray, lengths: np.ndarray, draw: np.random.Generator) -> list[tuple[int, int]]:
    """Where spans of `lengths` begin and end among `places` (of text, in a row), at least a token apart; drawn evenly."""
    gaps = len(places) - int(lengths.sum()) + 1
    lengths = lengths[:gaps]
    starts = np.sort(draw.choice(gaps, len(lengths), replace=False)) + np.cumsum(lengths) - lengths
    edges = np.append(places, places[-1:] + 1)
    return [(int(edges[a]), int(edges[a]) + int(n)) for a, n in zip(starts, lengths, strict=True)]


def replaced(row: np.ndarray, cut: Sequence[tuple[int, int]], marks: Sequence[int]) -> np.ndarray:
    """`row` with the mark of each span in its place."""
    parts, at = [], 0
    for (start, end), mark in zip(cut, marks, strict=False):
        parts += [row[at:start], [mark]]
        at = end
    return np.concatenate([*parts, row[at:]]).astype(np.int64)


def with_sentinels(
    row: np.ndarray, cut: Sequence[tuple[int, int]], sentinels: Sequence[int], end: np.ndarray
) -> Example:
    """Each span is written behind its sentinel, and one more sentinel behind the last."""
    written = [part for (a, b), mark in zip(cut, sentinels, strict=False) for part in ([mark], row[a:b])]
    return Example(
        replaced(row, cut, sentinels), np.concatenate([*written, [sentinels[len(cut)]], end]).astype(np.int64)
    )


def padded(examples: Sequence[Example], start: int, pad: int) -> dict[str, Tensor]:
    """input_ids, attention_mask [rows, time]; decoder_input_ids, labels [rows, time]; positions, targets [targets] of them, flat.

    Where there is no row, one of padding without a target.
    """
    examples = list(examples) or [Example(np.array([pad]), np.array([IGNORE]))]
    shown = filled([e.shown for e in examples], pad)
    labels = filled([e.written for e in examples], IGNORE)
    before = torch.cat((torch.full_like(labels[:, :1], start), labels[:, :-1]), 1)
    positions = (labels.flatten() != IGNORE).nonzero()[:, 0]
    lengths = torch.tensor([len(e.shown) for e in examples])
    return {
        "input_ids": shown,
        "attention_mask": (torch.arange(shown.shape[1]) < lengths[:, None]).long(),
        "decoder_input_ids": before.masked_fill(before == IGNORE, pad),
        "labels": labels,
        "positions": positions,
        "targets": labels.flatten()[positions],
        "filled": torch.tensor(int(lengths.sum()) + len(positions)),
    }


def filled(rows: Sequence[np.ndarray], value: int) -> Tensor:
    """`rows` as [rows, longest] int64, filled up with `value`."""
    return nn.utils.rnn.pad_sequence([torch.from_numpy(row) for row in rows], True, value)
