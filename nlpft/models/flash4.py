"""FlashAttention-4 (package flash-attn-4, CuTe kernels) as operators that a compiler keeps whole; faster than torch's on Hopper.

Imported where the package is installed. Its functions' names are internal to a beta: the check at the start of a run guards them.
"""

import os
from typing import Any

import torch
from torch import Tensor

os.environ.setdefault("FLASH_ATTENTION_CUTE_DSL_CACHE_ENABLED", "1")  # read on import: kernels take a minute to build

from flash_attn.cute import interface

WHOLE = 1 << 30  # a window that no row fills


def attend(
    q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, max_q: int, max_k: int, scale: Any, window: Any
) -> Tensor:
    """Causal attention [tokens, heads, dim] of packed rows; see `attention._torch_varlen`."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return torch.ops.nlpft.flash4(q, k, v, cu_q, max_q, scale, WHOLE if window is None else window)[0]


@torch.library.custom_op("nlpft::flash4", mutates_args={})
def flash4(
    q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, longest: int, scale: float, window: int
) -> tuple[Tensor, Tensor]:
    """Output [tokens, heads, dim] and log-sum-exp [heads, tokens]."""
    out, lse = interface._flash_attn_fwd(q, k, v, return_lse=True, **_options(bounds, longest, scale, window))[:2]
    return out, lse


@flash4.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, longest: int, scale: float, window: int
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(q), q.new_empty((q.shape[1], q.shape[0]), dtype=torch.float32)


@torch.library.custom_op("nlpft::flash4_backward", mutates_args={})
def flash4_backward(
    upstream: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    bounds: Tensor,
    longest: int,
    scale: float,
    window: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    options = _options(bounds, longest, scale, window)
    found = interface._flash_attn_bwd(q, k, v, out, upstream.contiguous(), lse, deterministic=deterministic, **options)
    return found[0], found[1], found[2]


@flash4_backward.register_fake
def _(
    upstream: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    bounds: Tensor,
    longest: int,
    scale: float,
    window: int,
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _options(bounds: Tensor, longest: int, scale: float, window: int) -> dict[str, Any]:
    left = {} if window == WHOLE else {"window_size_left": window - 1, "window_size_right": 0}
    return {
        "cu_seqlens_q": bounds,
        "cu_seqlens_k": bounds,
        "max_seqlen_q": longest,
        "max_seqlen_k": longest,
        "softmax_scale": scale,
        "causal": window == WHOLE,
        **left,
    }


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, bounds, *ctx.numbers = inputs
    ctx.save_for_backward(q, k, v, *output, bounds)


def _backward(ctx: Any, upstream: Tensor, of_lse: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, out, lse, bounds = ctx.saved_tensors
    gradients = torch.ops.nlpft.flash4_backward(upstream, q, k, v, out, lse, bounds, *ctx.numbers)
    return *gradients, None, None, None, None


flash4.register_autograd(_backward, setup_context=_remember)
