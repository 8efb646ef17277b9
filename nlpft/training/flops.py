"""Useful operations on a token (Kaplan et al. 2020; Chowdhery et al. 2022, PaLM, appendix B), and the peaks of devices."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from nlpft.models.blocks import blocks, depths
from nlpft.models.forward import bare

# TFLOP/s in bfloat16 without sparsity, by the makers' datasheets; the first whose words all stand in a device's name counts.
PEAKS = {
    "GB200": 2500, "B200": 2250, "H200 NVL": 835, "H200": 989, "GH200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989,
    "H800 PCIe": 756, "H800": 989, "A100": 312, "A800": 312, "L40S": 362, "L40": 181, "L4": 121, "A40": 150, "A30": 165,
    "A10": 125, "RTX 6000 Ada": 364, "RTX A6000": 155, "RTX 5090": 210, "RTX 4090": 165, "RTX 3090": 71, "MI300X": 1307,
}  # fmt: skip
PARTS = {"MIG", "LAPTOP", "D", "MAX"}  # words of devices that do less than those of the same number


def peak(device: torch.device) -> float | None:
    """FLOP/s that `device` can do at most in bfloat16; None where it is not known, as for every CPU."""
    return peak_of(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def peak_of(name: str) -> float | None:
    """FLOP/s of the device called `name` at most, in bfloat16; None where that is not known."""
    words = set(re.findall(r"\w+", name.upper()))
    found = (tflops for key, tflops in PEAKS.items() if set(key.upper().split()) <= words)
    return None if words & PARTS else next((tflops * 1e12 for tflops in found), None)


def per_token(model: nn.Module, lengths: np.ndarray) -> float:
    """Mean useful FLOPs that a token of rows of `lengths` [rows] takes, forward and backward.

    Every weight that multiplies takes 2 in the forward pass, 2 for the gradient of its inputs, unless nothing trains at its depth
    or below, and 2 for its own gradient if it trains. Each token is counted as scored by the head, and activations that are
    computed again are not: it is a measure of what the work needs, whatever is done.
    """
    inner = bare(model)
    depth = depths(inner)
    last = max(depth.values())
    lowest = min((depth[name] for name, p in inner.named_parameters() if p.requires_grad), default=last + 1)
    total = 0.0
    for name, size, trains in _weights(inner):
        at = depth.get(name, last)  # a tied head goes by the name of the embeddings
        total += 2 * size * (1 + (at >= lowest) + trains)
    for at, size in enumerate(_attention(inner, np.asarray(lengths, np.float64)), 1):
        total += 2 * size * (3 if at >= lowest else 1)  # both factors of its products have a gradient
    return total


def _weights(model: Any) -> Iterator[tuple[str, float, bool]]:
    """(name, numbers, whether it trains) of each weight that a token is multiplied with."""
    share = _expert_share(model.config.get_text_config())
    for place, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            continue
        for leaf, weight in module.named_parameters(recurse=False):
            name = f"{place}.{leaf}".removeprefix(".")
            # Of a layer its shape tells: in 4 bits and in float8 the tensors have others, and copies.
            known = hasattr(module, "in_features") and hasattr(module, "out_features")
            size = module.in_features * module.out_features * (leaf == "weight") if known else weight.numel()
            if size and (known or weight.ndim > 1):
                yield name, size * (share if ".experts." in name else 1), weight.requires_grad


def _expert_share(config: Any) -> float:
    """Of a mixture of experts, the share of its experts that see a token; else 1."""
    names = ("num_local_experts", "num_experts", "n_routed_experts")
    experts = next((n for name in names if (n := getattr(config, name, None))), 1)
    return (getattr(config, "num_experts_per_tok", None) or experts) / experts


def _attention(model: Any, lengths: np.ndarray) -> list[float]:
    """For each block, as many multiplications as a token takes in the products of causal attention, forward."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", 0)
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads) if heads else 0
    window, count = getattr(config, "sliding_window", None), len(blocks(model))
    kinds = getattr(config, "layer_types", None) or ["sliding_attention" if window else "full_attention"] * count
    context = {"full_attention": mean_context(lengths), "sliding_attention": mean_context(lengths, window)}
    return [width * context.get(kind, 0.0) for kind in kinds]


def mean_context(lengths: np.ndarray, window: int | None = None) -> float:
    """Twice the tokens that a token sees in the mean, itself counted by half: sum(n^2) / sum(n) where no `window` limits them."""
    beyond = np.maximum(lengths - window, 0) if window else 0
    return float((lengths**2 - beyond**2).sum() / lengths.sum())
