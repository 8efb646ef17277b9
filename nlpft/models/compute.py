"""How a model computes, not what: its attention, compiled blocks, folded adapters, and which activations are computed twice."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from nlpft.errors import ConfigError
from nlpft.models import adapters, attention
from nlpft.models.blocks import blocks


@dataclass(frozen=True)
class ComputeConfig:
    attention: Literal["auto", "varlen", "sdpa", "eager", "flex_attention", "flash_attention_2"] = "auto"
    """auto: varlen (no mask, no padding) where the model allows it, else sdpa. Each is checked when the run starts."""
    compile: bool | None = None
    """Whether blocks are compiled; not set: on a GPU."""
    keep_activations: float = 1.0
    """Share of a block's activations that is kept for the backward pass; the others are computed again, which takes
    time: at 0.7 about 1 %, at 0.05 about a quarter more (8B, LoRA)."""


def check(config: ComputeConfig) -> None:
    """Raise ConfigError for settings that mean nothing."""
    if not 0 <= config.keep_activations <= 1:
        raise ConfigError(f"compute.keep_activations {config.keep_activations}: a share from 0 to 1")


def compiles(config: ComputeConfig, device: torch.device) -> bool:
    """Whether blocks are compiled on `device`; then batches need static shapes."""
    return device.type == "cuda" if config.compile is None else config.compile


def prepare(model: Any, config: ComputeConfig, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """`model`, in place, set up to train on `device` with products in `dtype`."""
    check(config)
    compiled = compiles(config, device)
    name = attention.choose(model, device, dtype, compiled) if config.attention == "auto" else config.attention
    if name != attention.implementation(model):
        model.set_attn_implementation(name)
    adapters.fold(model)
    if compiled:
        compile_blocks(model, config.keep_activations)
    elif config.keep_activations < 1:
        checkpoint_blocks(model, config.keep_activations)
    return model


def compile_blocks(model: nn.Module, keep_activations: float = 1.0) -> None:
    """Compile the blocks one by one: they are alike, so one compilation serves them all, and a second run finds it in a cache."""
    import torch._functorch.config as partitioner

    # In multiples of what compiled code would keep anyway; the partitioner looks for the cheapest to compute again.
    partitioner.activation_memory_budget = keep_activations
    for block in blocks(model):
        block.compile(fullgraph=True, dynamic=False)


def checkpoint_blocks(model: Any, keep_activations: float) -> None:
    """Compute the activations of the first blocks again (Chen et al. 2016): about `keep_activations` of all are kept."""
    model.gradient_checkpointing_enable({"use_reentrant": False})
    stack = blocks(model)
    for block in stack[round(len(stack) * (1 - keep_activations)) :]:
        block.gradient_checkpointing = False  # type: ignore[assignment]


def compilations() -> int:
    """Graphs that have been compiled in this process so far."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])
