"""Attention after a plan made beforehand: over a prefix tree laid flat, or of new tokens over kept keys and values.

Registered with transformers as `planned`; `run` hands the plan through the model. Where an architecture wants more than a plan
computes (soft caps, windows), ModelError is raised, and callers fall back to transformers' own ways.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface

from nlpft.errors import ModelError
from nlpft.models import attention, prefix_tree
from nlpft.models.prefix_tree import Cell, PrefixTree

NAME = "planned"
CELL = 256  # tokens that attend under one mask: in larger ones, most of the mask would be empty
WASTE = {
    "cpu": 1.15,
    "cuda": 1.6,
}  # padded by real size of cells in one call: launching costs on a GPU, arithmetic on a CPU

# Not cuDNN's: it compiles a kernel for every new shape, and here nearly every call has one (measured: 90 ms a token on an H100).
KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]

# (layer, query [tokens, heads, dim], key and value [tokens, key heads, dim], scale) -> [tokens, heads, dim]
Plan = Callable[[int, Tensor, Tensor, Tensor, float | None], Tensor]


class Bucket(NamedTuple):
    """Cells of like size, padded: which tokens ask, which are seen, and by whom."""

    queries: Tensor  # [cells, longest] int64
    keys: Tensor  # [cells, most keys] int64
    bias: Tensor | None  # [cells, 1, longest, most keys] 0 or -inf; None: causal
    real: Tensor  # [real queries] int64, places among the padded ones
    places: Tensor  # [real queries] int64, places in the flat order


def planned(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    plan: Plan | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function. query: [1, heads, tokens, dim]; key, value: [1, key heads, tokens, dim].

    Raises ModelError where the architecture wants what no plan computes.
    """
    if attention.refused(more) or plan is None or sliding_window is not None or attention_mask is not None:
        raise ModelError(f"planned attention cannot serve {type(module).__name__}")
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    return plan(module.layer_idx, q, k, v, scaling)[None], None  # type: ignore[arg-type]


AttentionInterface.register(NAME, planned)


@contextlib.contextmanager
def using(model: Any) -> Iterator[None]:
    """Within it `model` attends as planned. Raises ModelError where its architecture takes no attention from outside."""
    before = attention.implementation(model)
    if before is None or not getattr(model, "_supports_attention_backend", False):
        raise ModelError(f"{type(model).__name__} takes no attention from outside")
    model.set_attn_implementation(NAME)
    try:
        with sdpa_kernel(KERNELS):
            yield
    finally:
        model.set_attn_implementation(before)


def sent(array: np.ndarray, device: torch.device) -> Tensor:
    """`array` on `device`; a GPU is not waited for."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


@torch.inference_mode()
def serves(model: Any) -> bool:
    """Whether `model` answers by plans as it does by itself: some architectures ignore what they are handed."""
    weight = next(model.parameters())
    rows = [[(7 * i * i + 3 * n) % 97 + 1 for i in range(12)] + [5 + n, 9] for n in (0, 0, 1)]
    tree = prefix_tree.build(rows)
    last = np.array([int(prefix_tree.path(tree, i, 1)[0]) for i in range(len(rows))])
    ids, positions, ends = (sent(x, weight.device) for x in (tree.ids, tree.positions, last))
    try:
        with using(model):
            found = run(model, ids, positions, over_tree(tree, weight.device, weight.dtype), ends)
    except (ModelError, AttributeError, TypeError, RuntimeError):
        return False
    alone = model(input_ids=torch.tensor(rows, device=weight.device), use_cache=False).logits[:, -1]
    apart = (found.float() - alone.float()).norm() / alone.float().norm()
    # Measured: 1e-6 in float32; half precision amplifies rounding over many layers (models/forward.py).
    return bool(apart < (1e-3 if weight.dtype == torch.float32 else 0.15))


def run(model: Any, ids: Tensor, positions: Tensor, plan: Plan, keep: Tensor) -> Tensor:
    """Logits [kept, vocab] of tokens `ids` [tokens] at `positions` [tokens] in their sequences, for the places in `keep`."""
    output = model(input_ids=ids[None], position_ids=positions[None], use_cache=False, logits_to_keep=keep, plan=plan)
    return output.logits[0]


def over_tree(tree: PrefixTree, device: torch.device, dtype: torch.dtype) -> Plan:
    """The plan by which each token of `tree` attends to itself and what stands before it in its sequences."""
    buckets = [_bucket(tree, group, device, dtype) for group in _alike(tree, WASTE[device.type])]

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
        out = torch.empty_like(q)
        for bucket in buckets:
            out.index_copy_(0, bucket.places, _attend(bucket, q, k, v, scale))
        return out

    return attend


def _attend(bucket: Bucket, q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
    """[real queries, heads, dim] of one bucket."""
    shared = q.shape[1] // k.shape[1]
    asked = q[bucket.queries].transpose(1, 2)
    keys, values = (x[bucket.keys].repeat_interleave(shared, 2).transpose(1, 2) for x in (k, v))
    causal = bucket.bias is None
    out = F.scaled_dot_product_attention(asked, keys, values, bucket.bias, is_causal=causal, scale=scale)
    return out.transpose(1, 2).flatten(0, 1)[bucket.real]


def _alike(tree: PrefixTree, waste: float) -> Iterator[list[Cell]]:
    """Cells in groups that may be padded to one size; those that are causal rows by themselves apart from the others."""
    group: list[Cell] = []
    area = widest = 0
    for alone, keys, queries, cell in sorted((_causal(tree, c), *_size(c), c) for c in prefix_tree.cells(tree, CELL)):
        padded = max(widest, queries) * keys * (len(group) + 1)  # the keys grow from cell to cell
        if group and (padded > waste * (area + queries * keys) or alone != _causal(tree, group[0])):
            yield group
            group, area, widest = [], 0, 0
        group.append(cell)
        area, widest = area + queries * keys, max(widest, queries)
    if group:
        yield group


def _size(cell: Cell) -> tuple[int, int]:
    """Keys and queries of a cell."""
    queries = cell.end - cell.start
    return queries + sum(end - start for start, end in cell.before), queries


def _causal(tree: PrefixTree, cell: Cell) -> bool:
    """Whether a cell is one row that sees nothing else."""
    return not cell.before and bool((tree.lasts[cell.start : cell.end] >= cell.end).all())


def _bucket(tree: PrefixTree, group: Sequence[Cell], device: torch.device, dtype: torch.dtype) -> Bucket:
    most, width = (max(column) for column in zip(*map(_size, group), strict=True))
    queries, keys = np.zeros((len(group), width), np.int64), np.zeros((len(group), most), np.int64)
    real = []
    for i, cell in enumerate(group):
        own = np.arange(cell.start, cell.end)
        seen = np.concatenate([*(np.arange(*part) for part in cell.before), own])
        queries[i, : len(own)], keys[i, : len(seen)] = own, seen
        real.append(i * width + np.arange(len(own)))
    where = np.concatenate(real)
    bias = None if _causal(tree, group[0]) else sent(_bias(tree, group, width, most), device).to(dtype)
    tensors = (sent(x, device) for x in (queries, keys, where, queries.reshape(-1)[where]))
    asked, shown, picked, places = tensors
    return Bucket(asked, shown, bias, picked, places)


def _bias(tree: PrefixTree, group: Sequence[Cell], width: int, most: int) -> np.ndarray:
    """What is added to the scores of padded cells [cells, 1, width, most], float32: 0 or -inf."""
    bias = np.full((len(group), 1, width, most), -np.inf, np.float32)
    bias[..., 0] = 0  # a padded query sees something, or its softmax would be 0 / 0
    for i, cell in enumerate(group):
        seen = prefix_tree.mask(tree, cell)
        bias[i, 0, : seen.shape[0], : seen.shape[1]][seen] = 0
        bias[i, 0, : seen.shape[0], 0][~seen[:, 0]] = -np.inf
    return bias
