"""Cross-entropy and its gradient as one Triton kernel: two passes over the logits (online softmax, Milakov & Gimelshein 2018)."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from nlpft.types import IGNORE

BLOCK = 4096  # logits that a program reads at a time


@triton.jit
def _kernel(logits, targets, nats, width, vocabulary, ignore: tl.constexpr, block: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    logits += row * width
    target = tl.load(targets + row)
    learnt = target != ignore
    # Read before anything is written: it is overwritten below.
    picked = tl.load(logits + tl.where(learnt, target, 0)).to(tl.float32)
    largest = tl.full([block], float("-inf"), tl.float32)
    total = tl.zeros([block], tl.float32)
    for start in range(0, vocabulary, block):
        columns = start + tl.arange(0, block)
        x = tl.load(logits + columns, mask=columns < vocabulary, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(largest, x)
        lower = tl.where(higher == float("-inf"), 0.0, higher)
        total = total * tl.exp(largest - lower) + tl.exp(x - lower)
        largest = higher
    top = tl.max(largest, 0)
    log_total = tl.log(tl.sum(total * tl.exp(largest - top), 0)) + top
    tl.store(nats + row, tl.where(learnt, log_total - picked, 0.0))
    for start in range(0, vocabulary, block):
        columns = start + tl.arange(0, block)
        x = tl.load(logits + columns, mask=columns < vocabulary, other=0.0).to(tl.float32)
        gradient = tl.exp(x - log_total) - tl.where(columns == target, 1.0, 0.0)
        gradient = tl.where(learnt, gradient, 0.0).to(logits.dtype.element_ty)
        tl.store(logits + columns, gradient, mask=columns < vocabulary)


def logits_to_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum of cross-entropies in nats; `logits` [targets, vocab] become the gradient of that sum, in place.

    targets: [targets], where IGNORE counts nothing.
    """
    nats = torch.empty(len(targets), dtype=torch.float32, device=logits.device)
    if len(targets):
        _kernel[len(targets),](
            logits, targets, nats, logits.stride(0), logits.shape[1], ignore=IGNORE, block=BLOCK, num_warps=8
        )
    return nats.sum()
