"""What each token of a row adds to a head's answer: integrated gradients on embeddings (Sundararajan et al. 2017), by captum.

The path leads from a row of padding tokens, the special tokens as they are, to the row; what the tokens are given adds up to
the difference between the answers at both ends, but for the error of the sum that stands for the integral: the gap.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nlpft.errors import ConfigError
from nlpft.evaluation.robustness import hooked

FIRST, MOST = 32, 1024  # steps of the sum: doubled until the gap is small
SMALL = 0.01  # share of the difference that a gap may have
ROUNDING = 1e-3  # a gap that no number of steps takes away
TAKEN = ("input_ids", "attention_mask", "token_type_ids")  # of a batch, by the model
TOKENS = 4096  # computed at once


class Margin(NamedTuple):
    """The output that is explained: a label's logit less another's."""

    target: int  # which target of the row: of tags which word's, else 0
    said: int
    other: int | None = None  # None: the logit by itself, of a number or of one of several labels


class Attribution(NamedTuple):
    """What the tokens of a row add to a margin."""

    tokens: np.ndarray  # float64 [time]
    difference: float  # between the margin of the row and that of padding tokens
    margin: float  # of the row
    steps: int

    @property
    def gap(self) -> float:
        """What the tokens add up to less the difference: 0 if the sum were the integral."""
        return float(self.tokens.sum()) - self.difference


def check() -> None:
    """Raise ConfigError where captum is not installed."""
    if find_spec("captum") is None:
        raise ConfigError('--attributions needs captum: pip install "nlpft[heads]"')


def attribute(model: Any, batch: dict[str, Tensor], special: np.ndarray, of: Margin) -> Attribution:
    """What each token of a row adds to the margin `of`; the model is in evaluation mode.

    batch: of `nlpft.data.example_batch` with this row alone, padded layout. special: bool [time], tokens that stay as they are.
    """
    from captum.attr import IntegratedGradients  # optional

    given: dict[str, Tensor] = {name: x for name, x in batch.items() if name in TAKEN}
    start, end = _ends(model, given["input_ids"], special)
    margin = _margin(model, given, int(batch["positions"][of.target]), of)
    before, after = (margin(x).item() for x in (start, end))
    steps, made = FIRST, IntegratedGradients(margin)
    together = max(1, TOKENS // end.shape[1])
    while True:
        parts = made.attribute(end, start, n_steps=steps, internal_batch_size=together)
        found = Attribution(parts[0].sum(-1).double().cpu().numpy(), after - before, after, steps)
        if steps >= MOST or abs(found.gap) <= max(SMALL * abs(found.difference), ROUNDING):
            return found
        steps *= 2


@torch.no_grad()
def _ends(model: Any, ids: Tensor, special: np.ndarray) -> tuple[Tensor, Tensor]:
    """Embeddings [1, time, width] of the row of padding tokens, and of the row."""
    pad = model.config.get_text_config().pad_token_id or 0
    kept = torch.from_numpy(special).to(ids.device)[None]
    embed = model.get_input_embeddings()
    return embed(torch.where(kept, ids, pad)), embed(ids)


def _margin(model: Any, given: dict[str, Tensor], position: int, of: Margin) -> Callable[[Tensor], Tensor]:
    """The margin [rows] as a function of embeddings [rows, time, width] of a row's tokens, or of what lies between two rows."""

    def margin(embeddings: Tensor) -> Tensor:
        with hooked(model, lambda module, args, output: embeddings):
            out = model(**{name: x.expand(len(embeddings), -1) for name, x in given.items()}).logits
        out = out[:, position] if out.ndim == 3 else out
        return out[:, of.said] if of.other is None else out[:, of.said] - out[:, of.other]

    return margin
