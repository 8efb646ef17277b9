"""A candidate of nlpft.search.space in a model: what trains, at which rates and ranks, which blocks there are, and whose."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from nlpft.errors import ModelError
from nlpft.models.blocks import blocks, depths
from nlpft.samplers._dimensions import Point


def parts(model: nn.Module) -> dict[str, str]:
    """For each parameter by name the bit that speaks for it: `embeddings`, `03.attention`, ...; '' behind the blocks."""
    deepest = len(blocks(model)) + 1
    norms = {id(p) for m in model.modules() if "norm" in type(m).__name__.lower() for p in m.parameters(recurse=False)}
    found = {}
    for name, depth in depths(model).items():
        weight = model.get_parameter(name)
        kind = "norms" if id(weight) in norms else "attention" if _in_attention(name) else "mlp"
        found[name] = "embeddings" if depth == 0 else "" if depth == deepest else f"{depth - 1:02}.{kind}"
    return found


def kept(point: Point, part: str) -> bool:
    """Whether `part` stays as it was pretrained. What has no bit is kept, but for what lies behind the blocks."""
    names = (f"keep.{part}", f"keep.{part.partition('.')[0]}")
    return next((bool(point[name]) for name in names if name in point), part != "")


def train(model: nn.Module, point: Point) -> nn.Module:
    """`model`, in place, of which what the candidate does not keep trains; what lies behind the blocks always does."""
    of = parts(model)
    for name, weight in model.named_parameters():
        weight.requires_grad_(not kept(point, of[name]))
    return model


def rate_factors(model: nn.Module, point: Point) -> dict[str, float]:
    """Factor of the learning rate of each weight in a block that has one, by name."""
    pairs = ((name, f"rate.{part.partition('.')[0]}") for name, part in parts(model).items())
    return {name: float(point[rate]) for name, rate in pairs if rate in point}


def rank_pattern(model: nn.Module, point: Point) -> tuple[list[str], dict[str, int]]:
    """Linear modules that get LoRA's updates, and the rank of each: PEFT's target_modules and rank_pattern."""
    stack = blocks(model)
    prefix = next(name for name, module in model.named_modules() if module is stack)
    ranks = {
        f"{prefix}.{number}.{name}": _rank(point, number, name)
        for number, block in enumerate(stack)
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear)
    }
    ranks = {name: rank for name, rank in ranks.items() if rank}
    return list(ranks), ranks


def _rank(point: Point, number: int, name: str) -> int:
    part = "attention" if _in_attention(name) else "mlp"
    names = (f"rank.{number:02}.{part}", f"rank.{number:02}")
    return next((int(point[name]) for name in names if name in point), 0)


@contextmanager
def adapted(model: nn.Module, point: Point, seed: int) -> Iterator[nn.Module]:
    """Within it the blocks that have a rank get LoRA's updates, scaled by 2, which train beside what did before.

    seed: of the first values.
    """
    targets, ranks = rank_pattern(model, point)
    if not targets:
        yield model
        return
    from peft import LoraConfig, LoraModel  # 5 s of import that other candidates do not need

    before = [weight for weight in model.parameters() if weight.requires_grad]
    torch.manual_seed(seed)
    scales = {name: 2 * rank for name, rank in ranks.items()}
    config = LoraConfig(target_modules=targets, rank_pattern=ranks, alpha_pattern=scales)
    wrapper = LoraModel(model, config, "default")
    del model.peft_config  # by which other files tell a model that is wrapped as a whole
    for weight in before:
        weight.requires_grad_(True)
    try:
        yield model
    finally:
        wrapper.unload()


@contextmanager
def shortened(model: nn.Module, point: Point) -> Iterator[nn.Module]:
    """Within it `model` has the first blocks only, as many as the candidate says."""
    stack = blocks(model)
    whole, config = list(stack), getattr(model, "config", None)
    before = getattr(config, "num_hidden_layers", None)
    count = int(point.get("blocks", len(whole)))
    del stack[count:]
    if before is not None:
        config.num_hidden_layers = count  # type: ignore[union-attr]
    try:
        yield model
    finally:
        stack.extend(whole[count:])
        if before is not None:
            config.num_hidden_layers = before  # type: ignore[union-attr]


@torch.no_grad()
def transplant(model: nn.Module, source: nn.Module, point: Point) -> nn.Module:
    """`model`, in place, with the weights of `source` in the blocks that the candidate says; source: a model of the same shape.

    Raises ModelError where a block of the source does not fit.
    """
    own, theirs = blocks(model), blocks(source)
    for number, block in enumerate(own):
        if not point.get(f"transplant.{number:02}"):
            continue
        if number >= len(theirs) or _shapes(theirs[number]) != _shapes(block):
            raise ModelError(
                f"block {number} of the source model does not fit into {type(model).__name__}'s; take a sibling"
            )
        block.load_state_dict(theirs[number].state_dict())
    return model


def fits(model: nn.Module, source: nn.Module) -> bool:
    """Whether the weights of each block of `source` can be put into the same block of `model`."""
    own, theirs = blocks(model), blocks(source)
    return len(own) == len(theirs) and all(_shapes(a) == _shapes(b) for a, b in zip(own, theirs, strict=True))


def taken_below(point: Point, first: int) -> tuple[int, ...]:
    """Numbers of the blocks below `first` that come from the source model."""
    return tuple(number for number in range(first) if point.get(f"transplant.{number:02}"))


def trained_numbers(model: nn.Module) -> int:
    """How many numbers train: one measure of a candidate's cost."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _shapes(block: Any) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in block.state_dict().items()}


def _in_attention(name: str) -> bool:
    return any("attn" in part or "attention" in part for part in name.split("."))
