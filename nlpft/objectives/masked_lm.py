"""Masked language modelling (Devlin et al. 2019, BERT): an encoder guesses hidden tokens from both sides."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from nlpft.data.loader import Corrupt
from nlpft.data.pack import pack as PLAN
from nlpft.errors import ConfigError
from nlpft.models.masked import loss
from nlpft.objectives._hidden import begins_word, is_text, mask_id, rows_of
from nlpft.types import IGNORE

__all__ = ["KIND", "PLAN", "Config", "build", "corruption", "num_targets"]

KIND = "encoder"


@dataclass(frozen=True)
class Config:
    name: Literal["masked_lm"] = "masked_lm"
    rate: float = 0.15
    """Share of a row's tokens that is to be guessed: so many of every row, rounded, at least one."""
    mask: float = 0.8
    """Share of those that is shown as the mask token."""
    random: float = 0.1
    """Share of those that is shown as any other token; the rest is shown as it is."""
    whole_words: bool = False
    """Hide words with all their tokens; a word begins where its vocabulary marks it (byte-level ones count punctuation to it)."""


def build(config: Config, model: nn.Module) -> Callable[[nn.Module, dict[str, Tensor]], Tensor]:
    check(config)
    return loss


def num_targets(batch: dict[str, Tensor]) -> Tensor:
    return torch.count_nonzero(batch["targets"] != IGNORE)


def check(config: Config) -> None:
    """Raise ConfigError for shares that mean nothing."""
    if not 0 < config.rate < 1:
        raise ConfigError(f"objective.rate {config.rate}: a share above 0 and below 1")
    if config.mask < 0 or config.random < 0 or config.mask + config.random > 1:
        raise ConfigError(
            f"objective.mask {config.mask}, objective.random {config.random}: shares of the hidden tokens, 1 at most in all"
        )


def corruption(config: Config, model: Any, tokenizer: Any) -> Corrupt:
    """A batch whose `positions` are hidden and whose `targets` stood there. Raises ConfigError where there is no mask token."""
    check(config)
    mask, text = mask_id(tokenizer, config.name), is_text(tokenizer)
    begins, ordinary = begins_word(tokenizer), np.flatnonzero(text)

    def corrupt(batch: dict[str, Tensor], rows: Sequence[int], place: tuple[int, ...]) -> dict[str, Tensor]:
        original = batch["input_ids"][0]
        shown, labels = original.numpy().copy(), torch.full_like(original, IGNORE)
        for where, draw in rows_of(batch, rows, place):
            row = shown[where]  # a view
            words = words_in(row, text, begins if config.whole_words else None)
            chosen = choose(words, config.rate, draw)
            labels[where][chosen] = original[where][chosen]
            row[chosen] = disguised(row[chosen], config, mask, ordinary, draw)
        positions = (labels != IGNORE).nonzero()[:, 0]
        hidden = {"labels": labels[None], "positions": positions, "targets": labels[positions]}
        return {**batch, "input_ids": torch.from_numpy(shown)[None], **hidden}

    return corrupt


def words_in(row: np.ndarray, text: np.ndarray, begins: np.ndarray | None) -> list[np.ndarray]:
    """Places in `row` [tokens] that are hidden together: single tokens, or words if `begins` [vocabulary] tells their first."""
    places = np.flatnonzero(text[row])
    new = np.ones(len(places), bool)
    if begins is not None:
        new[1:] = begins[row[places[1:]]] | (np.diff(places) > 1)
    return np.split(places, np.flatnonzero(new)[1:]) if len(places) else []


def choose(words: Sequence[np.ndarray], rate: float, draw: np.random.Generator) -> np.ndarray:
    """Places of words drawn until `rate` of all tokens are; a word that would be too much is passed over, unless it is alone."""
    wanted = max(1, round(rate * sum(map(len, words))))
    chosen: list[np.ndarray] = []
    for number in draw.permutation(len(words)):
        if not chosen or sum(map(len, chosen)) + len(words[number]) <= wanted:
            chosen.append(words[number])
        if sum(map(len, chosen)) >= wanted:
            break
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)


def disguised(
    tokens: np.ndarray, config: Config, mask: int, ordinary: np.ndarray, draw: np.random.Generator
) -> np.ndarray:
    """What is shown in place of `tokens`: `mask`, one of the ids `ordinary`, or the token itself."""
    dice = draw.random(len(tokens))
    others = draw.choice(ordinary, len(tokens))
    return np.where(dice < config.mask, mask, np.where(dice < config.mask + config.random, others, tokens))
