"""How a model computes, not what: attention, compiled blocks, folded adapters, float8, which activations are computed twice."""

import os
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from nlpft.errors import ConfigError
from nlpft.models import adapters, attention, float8
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
    float8: bool = False
    """Multiply in the blocks in float8, on GPUs that can: frozen weights under adapters, cast once; else all, by torchao."""
    deterministic: bool = False
    """Whether two runs on a GPU, or a run and its resume, give the same weights bit for bit."""


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
    if config.deterministic:
        be_deterministic()
    compiled = compiles(config, device)
    name = attention.choose(model, device, dtype, compiled) if config.attention == "auto" else config.attention
    if name != attention.implementation(model):
        model.set_attn_implementation(name)
    adapters.fold(model)
    if config.float8:
        float8.check(device)
        float8.convert(model, device)
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
    # PEFT's own forward of what is not folded, such as DoRA's, is no code that can be taken as one graph.
    whole = adapters.all_folded(model)
    for block in blocks(model):
        vars(block).pop("forward", None)
        # Not the whole call: FSDP2 hangs its gathering of weights on it, which no compiler can take as one graph.
        block.forward = torch.compile(block.forward, fullgraph=whole, dynamic=False)


def checkpoint_blocks(model: Any, keep_activations: float) -> None:
    """Compute the activations of the first blocks again (Chen et al. 2016): about `keep_activations` of all are kept."""
    model.gradient_checkpointing_enable({"use_reentrant": False})
    stack = blocks(model)
    for block in stack[round(len(stack) * (1 - keep_activations)) :]:
        block.gradient_checkpointing = False  # type: ignore[assignment]


def keep_activations(model: nn.Module, share: float) -> None:
    """Keep another share of activations from now on, in a model that `prepare` has set up."""
    if any("forward" in vars(block) for block in blocks(model)):
        torch._dynamo.reset()
        compile_blocks(model, share)
    else:
        checkpoint_blocks(model, share)


def be_deterministic() -> None:
    """Let this process compute with kernels that add in a fixed order; it stays so. Call it before anything is multiplied."""
    import torch._inductor.config as compiler

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    torch.use_deterministic_algorithms(True)
    # Filling finds bugs, and costs a pass over all memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # Else it times variants of a sum and takes the fastest, which may be another one in the next run. (torch 2.13's switch
    # sets this too.)
    compiler.deterministic = True


def compilations() -> int:
    """Graphs that have been compiled in this process so far."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])
