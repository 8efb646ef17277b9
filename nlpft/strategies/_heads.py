"""The layer of a model that gives the logits: what it reads, and one for another task in its place."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from nlpft.errors import ModelError
from nlpft.types import Task


def output_name(model: Any) -> str:
    """Name of the linear layer that gives the logits. Raises ModelError where the head has none."""
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and f"{name}.weight" in model.head_parameters
        and module.out_features == model.task.outputs
    ]
    if not found:
        raise ModelError(f"{type(model).__name__}: its head ends in no linear layer, which this strategy asks for")
    return found[-1]


def output_layer(model: Any) -> nn.Linear:
    return model.get_submodule(output_name(model))


def fresh(layer: nn.Linear, outputs: int, deviation: float) -> nn.Linear:
    """A layer for another number of outputs that reads what `layer` reads, drawn by torch's generator."""
    made = nn.Linear(layer.in_features, outputs, bias=layer.bias is not None).to(layer.weight)
    nn.init.normal_(made.weight, std=deviation)
    if made.bias is not None:
        nn.init.zeros_(made.bias)
    return made


@contextmanager
def instead(model: Any, layer: nn.Linear, task: Task) -> Iterator[None]:
    """Within it `layer` gives the logits of `model`, for `task`."""
    name, own, before = output_name(model), output_layer(model), model.task
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, layer)
    model.task = task
    try:
        yield
    finally:
        setattr(model.get_submodule(parent), leaf, own)
        model.task = before


@contextmanager
def read_by(layer: nn.Linear) -> Iterator[list[Tensor]]:
    """Within it the list gets what `layer` reads, call by call."""
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()


def at_targets(read: Tensor, positions: Tensor) -> Tensor:
    """What was read at the targets, [targets, width], of `read` [..., width] for all tokens or for the targets alone."""
    flat = read.flatten(0, -2)
    return flat if len(flat) == len(positions) else flat[positions]
