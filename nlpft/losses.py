"""Losses. Every one returns a SUM over the counted positions, so that one place divides, by the whole step's count."""

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils._triton import has_triton

from nlpft.types import IGNORE

ROWS = 4096  # positions whose logits exist at a time: 1 GiB in bfloat16 at 128,000 entries


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


def causal_lm_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum of cross-entropies in nats.

    logits: [targets, vocab] at the positions of `next_tokens`, any float type (upcast to float32 here). targets: [targets],
    where IGNORE counts nothing.
    """
    return F.cross_entropy(at_least_float32(logits), targets, reduction="sum", ignore_index=IGNORE)


def projected_loss(hidden: Tensor, weight: Tensor, targets: Tensor, rows: int = ROWS) -> Tensor:
    """`causal_lm_loss(hidden @ weight.T, targets)` that never holds the logits of more than `rows` positions.

    hidden: [targets, width]. weight: [vocab, width]. targets: [targets], where IGNORE counts nothing. Products are in the type of
    autocast where it is on, else in hidden's; the softmax is in float32 at least. The gradient is made with the loss, so the
    logits are computed once; a frozen weight costs no gradient. It can be gone through backwards once.
    """
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    if not torch.is_grad_enabled():
        hidden, weight = hidden.detach(), weight.detach()
    with torch.autocast(kind, enabled=False):
        return _ProjectedLoss.apply(hidden.to(dtype), weight, targets, rows)  # type: ignore[no-any-return]


class _ProjectedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, rows: int) -> Tensor:
        learns, learns_weight = ctx.needs_input_grad[:2]
        to_hidden = torch.zeros_like(hidden) if learns else None
        to_weight = torch.zeros_like(weight) if learns_weight else None
        cast, score = weight.to(hidden.dtype), _score(hidden.device.type)
        nats = at_least_float32(hidden.new_zeros(()))
        for part in spans(len(targets), rows):
            logits = hidden[part] @ cast.T
            nats += score(logits, targets[part])  # logits is their gradient now
            if to_hidden is not None:
                torch.mm(logits, cast, out=to_hidden[part])
            if to_weight is not None:
                to_weight += logits.T @ hidden[part]
        ctx.gradients = to_hidden, to_weight
        return nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        gradients, ctx.gradients = ctx.gradients, None
        assert gradients is not None, "projected_loss was gone through backwards twice"
        return *(g.mul_(upstream) if g is not None else None for g in gradients), None, None


def spans(count: int, most: int) -> list[slice]:
    """0 .. `count` cut into equal pieces of at most `most`."""
    pieces = -(-count // most)
    bounds = [count * i // pieces for i in range(pieces + 1)] if pieces else [0]
    return [slice(a, b) for a, b in zip(bounds, bounds[1:], strict=False)]


def at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def logits_to_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum of cross-entropies in nats; `logits` [targets, vocab] become the gradient of that sum, in place."""
    x, learnt = at_least_float32(logits), targets != IGNORE
    largest = x.amax(1, keepdim=True)
    total = (x - largest).exp_().sum(1, keepdim=True).log_().add_(largest)
    nats = (total[:, 0] - x.gather(1, targets.clamp(min=0)[:, None])[:, 0]).masked_fill(~learnt, 0.0).sum()
    gradient = x.sub_(total).exp_()
    gradient[torch.arange(len(targets), device=x.device), targets.clamp(min=0)] -= 1.0
    logits.copy_(gradient.masked_fill_(~learnt[:, None], 0.0))
    return nats


def _logits_to_gradient_fusible(logits: Tensor, targets: Tensor) -> Tensor:
    """`logits_to_gradient` without indexed writes, so that a compiler makes one kernel of it."""
    x, learnt = logits.float(), targets != IGNORE
    total = x.logsumexp(1, keepdim=True)
    nats = torch.where(learnt, total[:, 0] - x.gather(1, targets.clamp(min=0)[:, None])[:, 0], 0.0).sum()
    hit = torch.arange(logits.shape[1], device=logits.device)[None] == targets[:, None]
    logits.copy_(torch.where(learnt[:, None], (x - total).exp() - hit.float(), 0.0))
    return nats


@functools.cache
def _score(device: str) -> Callable[[Tensor, Tensor], Tensor]:
    """`logits_to_gradient`, compiled on a GPU: two passes over the logits in place of nine."""
    if device != "cuda" or not has_triton():
        return logits_to_gradient
    compiled = torch.compile(_logits_to_gradient_fusible)

    def score(logits: Tensor, targets: Tensor) -> Tensor:
        for tensor in (logits, targets):  # how many positions are learnt changes from step to step
            torch._dynamo.maybe_mark_dynamic(tensor, 0)
        return compiled(logits, targets)

    return score
