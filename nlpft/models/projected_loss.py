"""Projection onto the vocabulary and cross-entropy in one, at learnt positions only, in pieces: no logits outlive it."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils._triton import has_triton

from nlpft.losses import at_least_float32
from nlpft.types import IGNORE

ROWS = 4096  # positions whose logits exist at a time: 1 GiB in bfloat16 at 128,000 entries


Score = Callable[[Tensor, slice], Tensor]
# (logits [part, vocab], part) -> the sum of the losses of the positions `part`; `logits` become its gradient, in place


def projected_loss(hidden: Tensor, weight: Tensor, targets: Tensor, rows: int = ROWS, smoothing: float = 0.0) -> Tensor:
    """`losses.causal_lm_loss(hidden @ weight.T, targets, smoothing)` that never holds the logits of more than `rows` positions.

    targets: [targets], where IGNORE counts nothing; the rest as `projected`.
    """
    kernel = _score(hidden.device.type, smoothing)
    return projected(hidden, weight, lambda logits, part: kernel(logits, targets[part]), rows)


def projected(hidden: Tensor, weight: Tensor, score: Score, rows: int = ROWS) -> Tensor:
    """The sum of what `score` makes of the logits `hidden @ weight.T`, of which never more than `rows` positions exist.

    hidden: [targets, width]. weight: [vocab, width]. Products are in the type of autocast where it is on, else in hidden's. The
    gradient is made with the loss, so the logits are computed once; a frozen weight costs no gradient. It can be gone through
    backwards once.
    """
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    if not torch.is_grad_enabled():
        hidden, weight = hidden.detach(), weight.detach()
    with torch.autocast(kind, enabled=False):
        return _ProjectedLoss.apply(hidden.to(dtype), weight, score, rows)


class _ProjectedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, score: Score, rows: int) -> Tensor:
        learns, learns_weight = ctx.needs_input_grad[:2]
        to_hidden = torch.zeros_like(hidden) if learns else None
        to_weight = torch.zeros_like(weight) if learns_weight else None
        cast = weight.to(hidden.dtype)
        nats = at_least_float32(hidden.new_zeros(()))
        for part in spans(len(hidden), rows):
            logits = hidden[part] @ cast.T
            nats += score(logits, part)  # logits is their gradient now
            if to_hidden is not None:
                torch.mm(logits, cast, out=to_hidden[part])
            if to_weight is not None:
                add_product(to_weight, logits.T, hidden[part])
        ctx.gradients = to_hidden, to_weight
        return nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        assert gradients is not None, "projected_loss was gone through backwards twice"
        return *(g.mul_(upstream) if g is not None else None for g in gradients), None, None


def spans(count: int, most: int) -> list[slice]:
    """0 .. `count` cut into equal pieces of at most `most`."""
    pieces = -(-count // most)
    bounds = [count * i // pieces for i in range(pieces + 1)] if pieces else [0]
    return [slice(a, b) for a, b in itertools.pairwise(bounds)]


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """`total` += left @ right, in place; into float32 without rounding to bfloat16 on the way, where the device can."""
    if total.is_cuda and total.dtype == torch.float32 and left.dtype in (torch.bfloat16, torch.float16):
        torch.addmm(total, left, right, out_dtype=torch.float32, out=total)
    else:
        total += left @ right


def logits_to_gradient(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Sum of cross-entropies in nats; `logits` [targets, vocab] become the gradient of that sum, in place."""
    x, learnt = at_least_float32(logits), targets != IGNORE
    largest = x.amax(1, keepdim=True)
    total = (x - largest).exp_().sum(1, keepdim=True).log_().add_(largest)
    wanted = x.gather(1, targets.clamp(min=0)[:, None])[:, 0]
    if smoothing:
        wanted = wanted * (1 - smoothing) + x.mean(1) * smoothing
    nats = (total[:, 0] - wanted).masked_fill(~learnt, 0.0).sum()
    gradient = x.sub_(total).exp_()
    if smoothing:
        gradient -= smoothing / x.shape[1]
    gradient[torch.arange(len(targets), device=x.device), targets.clamp(min=0)] -= 1.0 - smoothing
    logits.copy_(gradient.masked_fill_(~learnt[:, None], 0.0))
    return nats


@functools.cache
def _score(device: str, smoothing: float = 0.0) -> Callable[[Tensor, Tensor], Tensor]:
    """`logits_to_gradient`: on a GPU as a kernel that goes twice over the logits, in place of nine times; not when smoothed."""
    if smoothing or device != "cuda" or not has_triton():
        return functools.partial(logits_to_gradient, smoothing=smoothing)
    from nlpft.models import _cross_entropy  # Triton is there on GPUs only

    return _cross_entropy.logits_to_gradient
