"""Attention in which every row of a pack sees itself alone, without masks: FlashAttention (Dao 2023), torch's or newer.

Registered with transformers as `varlen`. `models/forward.py` hands `cu_seqlens` through the model: where the rows begin.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from nlpft.errors import ModelError

NAME = "varlen"
PLAIN = "sdpa"
# What an architecture may hand to its attention that this one does not compute.
REFUSED = ("softcap", "s_aux", "position_bias", "head_mask")


def varlen(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function. query: [1, heads, time, dim]; key, value: [1, key heads, time, dim].

    cu_seq_lens_q: [rows + 1] int32, where the rows begin and the last one ends (= time). max_length_q: tokens, no row is longer.
    sliding_window: tokens that a token sees, itself included. is_causal: whether it sees those before it only; not given: as
    `module` says, which in encoders is false. dropout: on the CPU only. Returns [1, time, heads, dim].
    Raises ModelError where the architecture wants what this attention lacks.
    """
    wanted = refused(more)
    dropped = dropout and query.is_cuda
    if wanted or dropped or cu_seq_lens_q is None or max_length_q is None:
        what = ", ".join(wanted) or ("attention dropout" if dropped else "a mask in place of cu_seqlens")
        raise ModelError(f"varlen attention cannot serve {type(module).__name__} ({what}); set compute.attention sdpa")
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    # Under autocast, rotary positions may come in float32 and values in bfloat16.
    q, k, v = (x[0].transpose(0, 1).to(value.dtype) for x in (query, key, value))
    if query.is_cuda:
        attend = _flash if causal else _flash_both_ways
        return attend(q, k, v, cu_seq_lens_q, max_length_q, scaling, sliding_window)[None], None
    return _by_row(q, k, v, cu_seq_lens_q, scaling, sliding_window, causal, dropout)[None], None


def refused(more: dict[str, Any]) -> list[str]:
    """What among the keywords `more` of an attention function nlpft's do not compute."""
    return [name for name in REFUSED if more.get(name) is not None]


def _flash(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, longest: int, scale: float | None, window: int | None
) -> Tensor:
    assert VARLEN_ATTN is not None, "choose would have taken another attention"
    return VARLEN_ATTN(q, k, v, cu_seqlens, cu_seqlens, longest, longest, scale, window)


def _flash_both_ways(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, longest: int, scale: float | None, window: int | None
) -> Tensor:
    """torch's own kernel, for encoders."""
    from torch.nn.attention.varlen import varlen_attn

    if window is not None:
        raise ModelError("varlen attention knows no window in both directions; set compute.attention sdpa")
    return varlen_attn(q, k, v, cu_seqlens, cu_seqlens, longest, longest, scale=scale)  # type: ignore[return-value]


def _by_row(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    scale: float | None,
    window: int | None,
    causal: bool,
    dropout: float,
) -> Tensor:
    """One call of SDPA for each row: on a CPU, where a pack's mask would cost the square of the pack."""
    lengths = cu_seqlens.diff().tolist()
    # Split, not sliced: each slice's gradient would be a tensor of the whole pack's size, to be filled and added.
    by_row = (x.transpose(0, 1)[None].split(lengths, 2) for x in (q, k, v))
    parts = [_row(q_, k_, v_, scale, window, causal, dropout) for q_, k_, v_ in zip(*by_row, strict=True)]
    return torch.cat(parts, 2)[0].transpose(0, 1)


def _row(
    q: Tensor, k: Tensor, v: Tensor, scale: float | None, window: int | None, causal: bool, dropout: float
) -> Tensor:
    """SDPA of one row, [1, heads, time, dim]."""
    mask = _window(q.shape[2], window, causal, q.device)
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        mask,
        dropout_p=dropout,
        is_causal=causal and mask is None,
        scale=scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )


def _window(length: int, window: int | None, causal: bool, device: torch.device) -> Tensor | None:
    """Boolean mask [length, length] of a window, or None where the whole row lies in it."""
    if window is None or length <= window:
        return None
    here = torch.arange(length, device=device)
    back = here[:, None] - here
    return (back >= 0) & (back < window) if causal else back.abs() < window


def _torch_varlen() -> Callable[..., Tensor]:
    """torch's `varlen_attn`, causal, under one signature: its keywords differ from torch 2.11 to 2.13."""
    from torch.nn.attention import varlen as torch_varlen

    known = inspect.signature(torch_varlen.varlen_attn).parameters

    def attend(
        q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, max_q: int, max_k: int, scale: Any, window: Any
    ) -> Tensor:
        options: dict[str, Any] = {"scale": scale, "window_size": (-1 if window is None else window - 1, 0)}
        if "enable_gqa" in known:
            options["enable_gqa"] = True
        return torch_varlen.varlen_attn(q, k, v, cu_q, cu_k, max_q, max_k, **options)  # type: ignore[return-value]

    return attend


def _kernel() -> Callable[..., Tensor] | None:
    """The fastest attention of packed rows that is installed, or None."""
    try:
        hopper = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (9, 0)
        if hopper and find_spec("flash_attn") and find_spec("flash_attn.cute"):
            from nlpft.models import flash4

            return flash4.attend
        from torch.nn.attention import varlen as torch_varlen
    except ImportError:
        return None
    whole = {"scale", "window_size"} <= inspect.signature(torch_varlen.varlen_attn).parameters.keys()
    return _torch_varlen() if whole else None


VARLEN_ATTN = _kernel()
AttentionInterface.register(NAME, varlen)


def implementation(model: Any) -> str | None:
    """Name of the attention that `model` computes, in transformers' terms; None for what is no transformers model."""
    return getattr(getattr(model, "config", None), "_attn_implementation", None)


def choose(model: Any, device: torch.device, dtype: torch.dtype, compiled: bool) -> str:
    """The fastest attention that is exact for `model` on packed rows, computing in `dtype` on `device`.

    varlen wherever it serves: on a GPU in half precision, on the CPU uncompiled; else SDPA, with a mask.
    """
    config = model.config.get_text_config()
    odd = getattr(config, "attn_logit_softcapping", None) or getattr(config, "attention_dropout", 0)
    flash = VARLEN_ATTN is not None and dtype in (torch.bfloat16, torch.float16)
    if device.type == "cuda":  # no kernel for packed rows drops attention weights, as BERT's kin do
        odd = odd or getattr(config, "attention_probs_dropout_prob", 0)
    supported = getattr(model, "_supports_attention_backend", False) and not odd
    return NAME if supported and (flash if device.type == "cuda" else not compiled) else PLAIN


@contextlib.contextmanager
def plain(model: Any) -> Iterator[None]:
    """Within it `model` computes torch's SDPA with a mask, uncompiled: what the fast ways are checked against."""
    before = implementation(model)
    with torch.compiler.set_stance("force_eager"):
        if before not in (None, PLAIN, "eager"):
            model.set_attn_implementation(PLAIN)
        try:
            yield
        finally:
            if before not in (None, PLAIN, "eager"):
                model.set_attn_implementation(before)
