"""models/flash4.py around kernels in plain torch: its gradients are right, and a compiler keeps its operators whole."""

import importlib
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from nlpft.models import attention


def scores(q, k, bounds, scale, causal, left):
    """Log-probabilities [heads, tokens, tokens] of packed rows, keys repeated, and the log-sum-exp [heads, tokens]."""
    row = torch.bucketize(torch.arange(len(q)), bounds, right=True)
    back = torch.arange(len(q))[:, None] - torch.arange(len(q))
    seen = (row[:, None] == row) & (back >= 0) & (torch.tensor(causal) | (back <= (left or 0)))
    x = torch.einsum("ihd,jhd->hij", q, k.repeat_interleave(q.shape[1] // k.shape[1], 1)) * scale
    x = x.masked_fill(~seen, float("-inf"))
    return x, x.logsumexp(-1)


def fwd(q, k, v, *, cu_seqlens_q, softmax_scale, causal, return_lse, window_size_left=None, **more):
    x, lse = scores(q, k, cu_seqlens_q, softmax_scale, causal, window_size_left)
    out = torch.einsum("hij,jhd->ihd", (x - lse[..., None]).exp(), v.repeat_interleave(q.shape[1] // v.shape[1], 1))
    return out, lse.float(), None, None, None


def bwd(q, k, v, out, upstream, lse, *, cu_seqlens_q, softmax_scale, causal, window_size_left=None, **more):
    group = q.shape[1] // k.shape[1]
    x, lse = scores(q, k, cu_seqlens_q, softmax_scale, causal, window_size_left)
    p = (x - lse[..., None]).exp()
    to_v = torch.einsum("hij,ihd->jhd", p, upstream)
    to_p = torch.einsum("ihd,jhd->hij", upstream, v.repeat_interleave(group, 1))
    to_x = p * (to_p - (to_p * p).sum(-1, keepdim=True)) * softmax_scale
    to_q = torch.einsum("hij,jhd->ihd", to_x, k.repeat_interleave(group, 1))
    to_k = torch.einsum("hij,ihd->jhd", to_x, q)
    return to_q, *(g.unflatten(1, (-1, group)).sum(2) for g in (to_k, to_v))


@pytest.fixture(scope="module")
def flash4():
    names = ("flash_attn", "flash_attn.cute")
    modules = {name: ModuleType(name) for name in names}
    modules["flash_attn.cute"].interface = SimpleNamespace(_flash_attn_fwd=fwd, _flash_attn_bwd=bwd)
    sys.modules.update(modules)
    yield importlib.import_module("nlpft.models.flash4")
    for name in names:
        del sys.modules[name]


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("compiled", [False, True])
def test_it_is_attention_by_row_in_value_and_gradient(flash4, window, compiled):
    torch.manual_seed(0)
    q, k, v = (torch.randn(17, heads, 8, dtype=torch.float64, requires_grad=True) for heads in (4, 2, 2))
    bounds = torch.tensor([0, 5, 6, 17], dtype=torch.int32)
    attend = torch.compile(flash4.attend, backend="aot_eager", fullgraph=True) if compiled else flash4.attend
    got = attend(q, k, v, bounds, bounds, 11, 11, None, window)
    expected = attention._by_row(q, k, v, bounds, None, window, True, 0.0)
    torch.testing.assert_close(got, expected)
    weights = torch.randn_like(got)
    for one, other in zip(*(torch.autograd.grad((x * weights).sum(), (q, k, v)) for x in (got, expected)), strict=True):
        torch.testing.assert_close(one, other)
