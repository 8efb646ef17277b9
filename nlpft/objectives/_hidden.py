"""What the objectives that hide tokens have in common: the vocabulary's special tokens and words, and a row's own dice."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from nlpft.errors import ConfigError

BLANKS = ("Ġ", "Ċ", "▁")  # with which an entry of a byte-level or SentencePiece vocabulary begins, where a word does


def rows_of(batch: dict[str, Tensor], rows: Sequence[int], place: tuple[int, ...]) -> Iterator[tuple[slice, Any]]:
    """Where each row of a packed `batch` lies in it, and numpy's generator for it: its own, whatever it shares the batch with."""
    bounds = batch["cu_seqlens"].tolist()
    for row, start, end in zip(rows, bounds, bounds[1:], strict=False):
        yield slice(start, end), np.random.default_rng((*place, row))


def is_text(tokenizer: Any) -> np.ndarray:
    """Of each id, whether it stands for text: bool [vocabulary]."""
    found = np.ones(len(tokenizer), bool)
    control = {
        i for i, token in tokenizer.added_tokens_decoder.items() if token.special
    }  # all_special_ids lacks sentinels
    found[sorted((control | set(tokenizer.all_special_ids)) - {tokenizer.unk_token_id})] = False
    return found


def mask_id(tokenizer: Any, objective: str) -> int:
    """Id of the mask token. Raises ConfigError where the tokenizer has none."""
    if tokenizer.mask_token_id is None:
        raise ConfigError(
            f"objective.name {objective}: the tokenizer of {tokenizer.name_or_path} has no mask token; name the one of its "
            "vocabulary (tokenizer.mask_token = ..., tokenizer.save_pretrained), or choose another model"
        )
    return int(tokenizer.mask_token_id)


def begins_word(tokenizer: Any) -> np.ndarray:
    """Of each id, whether a word begins with it: no ## before it (WordPiece), or a blank (byte-level, SentencePiece)."""
    entries = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    prefix = getattr(tokenizer.backend_tokenizer.model, "continuing_subword_prefix", None)
    if prefix and any(entry and entry.startswith(prefix) for entry in entries):
        return np.array([not (entry or "").startswith(prefix) for entry in entries])
    return np.array([(entry or "").startswith(BLANKS) for entry in entries])
