"""Which weights train, where a method picks them among the model's own."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from nlpft.errors import ConfigError, some


def train_only(model: nn.Module, wanted: Callable[[str], bool]) -> nn.Module:
    """`model`, in place, of which the weights with a `wanted` name train."""
    for name, weight in model.named_parameters():
        weight.requires_grad_(wanted(name))
    return model


def matching(model: nn.Module, patterns: Sequence[str]) -> set[str]:
    """Names of the parameters that match one of `patterns` (as a shell matches). Raises ConfigError for one that matches none."""
    names = [name for name, _ in model.named_parameters()]
    found = {pattern: {name for name in names if fnmatchcase(name, pattern)} for pattern in patterns}
    for pattern, matched in found.items():
        if not matched:
            raise ConfigError(f"tuning.patterns {pattern!r}: no weight has such a name; there are {some(names, 12)}")
    return set().union(*found.values())


def head_names(model: Any) -> set[str]:
    """Names of the parameters of a head of nlpft.models.heads, else of the output projection; tied ones as in the embeddings."""
    if getattr(model, "head_parameters", None):
        return set(model.head_parameters)
    head = model.get_output_embeddings()
    if head is None:
        raise ConfigError(f"{type(model).__name__} has no output projection that could be trained")
    own = {id(p) for p in head.parameters()}
    return {name for name, p in model.named_parameters() if id(p) in own}
