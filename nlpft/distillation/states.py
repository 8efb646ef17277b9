"""Losses between a student's and a teacher's insides: hidden states behind blocks, and relations within the last block.

Relations (MiniLMv2, Wang et al. 2021), not attention maps: MiniLM (Wang et al. 2020) compares maps of queries and keys, and
relations of values; its successor compares queries with queries, keys with keys, values with values. Fused attention never
makes the maps, and maps need as many heads in both models; relations need neither, and no equal widths.
"""

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nlpft.errors import ConfigError, ModelError
from nlpft.losses import at_least_float32
from nlpft.models.blocks import blocks
from nlpft.models.forward import bare

# What transformers' architectures call the layers that make queries, keys and values, each by itself.
QUERY_KEY_VALUE = (("q_proj", "k_proj", "v_proj"), ("query", "key", "value"), ("q_lin", "k_lin", "v_lin"))


@dataclass
class States:
    """What one call of a model left behind."""

    hidden: dict[int, Tensor] = field(default_factory=dict)  # by block, from 0: [1, time, width]
    related: dict[int, Tensor] = field(
        default_factory=dict
    )  # queries, keys and values of the last block: [1, time, width]


@contextlib.contextmanager
def captured(model: Any, numbers: Sequence[int], relations: bool) -> Iterator[States]:
    """Within it calls of `model` leave the hidden states behind the blocks `numbers`, and what relations are made of."""
    states, stack = States(), blocks(bare(model))

    def keep(into: dict[int, Tensor], number: int) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            into[number] = output[0] if isinstance(output, tuple) else output

        return hook

    handles = [stack[number].register_forward_hook(keep(states.hidden, number)) for number in numbers]
    if relations:
        layers = query_key_value(stack[-1], type(bare(model)).__name__)
        handles += [layer.register_forward_hook(keep(states.related, n)) for n, layer in enumerate(layers)]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()


def query_key_value(block: nn.Module, name: str) -> list[nn.Module]:
    """The layers of `block` that make queries, keys and values. Raises ModelError where one layer makes them all."""
    found = {}
    for place, module in reversed(list(block.named_modules())):  # of an adapted layer the outermost
        found[place.rpartition(".")[2]] = module
    for names in QUERY_KEY_VALUE:
        if all(part in found for part in names):
            return [found[part] for part in names]
    raise ModelError(f"relations: {name} has no layers of its own for queries, keys and values; set relations to 0")


def pairs(student: int, teacher: int) -> list[tuple[int, int]]:
    """(block of the student, block of the teacher), from 0, at one share of each one's depth (TinyBERT, Jiao et al. 2020)."""
    return [(i, max(0, round((i + 1) * teacher / student) - 1)) for i in range(student)]


def width(model: Any) -> int:
    """Numbers of a hidden state."""
    return int(bare(model).config.get_text_config().hidden_size)


def heads(*models: Any) -> int:
    """The most parts that the queries, keys and values of all `models` can be cut into along their heads."""
    configs = [bare(model).config.get_text_config() for model in models]
    counts = [n for c in configs for n in (c.num_attention_heads, getattr(c, "num_key_value_heads", None)) if n]
    return math.gcd(*counts)


def check_heads(wanted: int, models: Sequence[Any], key: str) -> None:
    """Raise ConfigError where `wanted` parts do not divide what a model's heads give. key: how the setting's name begins."""
    for model in models:
        config = bare(model).config.get_text_config()
        each = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        for count in (config.num_attention_heads, getattr(config, "num_key_value_heads", None)):
            if count and (wanted < 1 or count * each % wanted):
                raise ConfigError(
                    f"{key}.relation_heads {wanted}: does not divide {count * each}, the width of {count} heads of "
                    f"{type(bare(model)).__name__}; leave it unset for {heads(*models)}"
                )


def hidden_loss(
    student: Sequence[Tensor], teacher: Sequence[Tensor], positions: Tensor, counts: Tensor, project: Sequence[Any]
) -> Tensor:
    """Sum over the targets of |projected - teacher's|^2 / |teacher's|^2, in the mean over blocks; 0 where they are equal.

    student, teacher: hidden states [1, time, width] by pair. positions: [targets]; counts: [targets] bool. project: for each pair
    what brings the student's width to the teacher's, or None. Relative, because the size of hidden states grows with depth and
    differs a hundredfold between models.
    """
    total = torch.zeros((), device=positions.device)
    for own, wanted, bring in zip(student, teacher, project, strict=True):
        at = own[0, positions]
        at = at_least_float32(bring(at) if bring is not None else at)
        goal = wanted[0, positions].to(at.dtype)
        size = goal.square().sum(1).clamp(min=torch.finfo(at.dtype).tiny)
        total = total + ((at - goal).square().sum(1) / size).masked_fill(~counts, 0.0).sum()
    return total / max(1, len(student))


def relations_loss(
    student: States, teacher: States, bounds: Tensor, positions: Tensor, counts: Tensor, parts: int, causal: bool
) -> Tensor:
    """Sum over the targets of KL(teacher's || student's) relations of their tokens with those that they see, in nats.

    In the mean over `parts` and over queries, keys, values. bounds: [rows + 1], where rows of the pack begin. The others as in
    `hidden_loss`. Row by row: memory follows targets x tokens of the longest row.
    """
    total = torch.zeros((), device=positions.device)
    kept = positions[counts]
    edges = bounds.tolist()
    for start, end in itertools.pairwise(edges):
        asked = kept[(kept >= start) & (kept < end)] - start
        if len(asked):
            seen = torch.arange(end - start, device=asked.device) <= asked[:, None] if causal else None
            for kind in student.related:
                one, other = (
                    log_relations(s.related[kind][0, start:end], asked, seen, parts) for s in (student, teacher)
                )
                gap = other.exp() * (other - one).masked_fill(other == -torch.inf, 0.0)
                total = total + gap.sum() / (parts * len(student.related))
    return total


def log_relations(x: Tensor, asked: Tensor, seen: Tensor | None, parts: int) -> Tensor:
    """Log softmax, over the tokens `seen`, of scaled products of x [time, width] at `asked` with all: [parts, asked, time]."""
    cut = at_least_float32(x).unflatten(1, (parts, -1)).transpose(0, 1)
    products = cut[:, asked] @ cut.transpose(1, 2) / math.sqrt(cut.shape[2])
    return (products if seen is None else products.masked_fill(~seen, -torch.inf)).log_softmax(2)
