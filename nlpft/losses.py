"""Losses. Every one returns a SUM over the counted positions, so that one place divides, by the whole step's count."""

import torch
import torch.nn.functional as F
from torch import Tensor

from nlpft.types import IGNORE


def next_tokens(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Where a next token is learnt, and which.

    labels: [1, time], unshifted: `labels[0, t]` is the token AT t, or IGNORE. The shift is here and nowhere else.
    Returns positions [targets] from which a learnt token is predicted, and those tokens [targets], both int64.
    """
    following = labels[0, 1:]
    positions = (following != IGNORE).nonzero().squeeze(1)
    return positions, following[positions]


def num_targets(labels: Tensor) -> Tensor:
    """How many positions of `labels` [1, time] a causal LM is scored on."""
    return torch.count_nonzero(labels[0, 1:] != IGNORE)


def causal_lm_loss(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Sum of cross-entropies in nats.

    logits: [targets, vocab] at the positions of `next_tokens`, any float type (upcast to float32 here). targets: [targets],
    where IGNORE counts nothing. smoothing: share of a target that is spread evenly over the vocabulary (Szegedy et al. 2016).
    """
    return F.cross_entropy(
        at_least_float32(logits), targets, reduction="sum", ignore_index=IGNORE, label_smoothing=smoothing
    )


def at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
