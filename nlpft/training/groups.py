"""Parameter groups: the rate and the decay of every weight that trains, each in exactly one group."""

import math
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from torch import nn

from nlpft.errors import ConfigError
from nlpft.models.blocks import depths

Group = dict[str, Any]


class Described(NamedTuple):
    """What a group does, for people."""

    name: str
    parameters: int  # numbers that train
    lr: float  # highest rate
    weight_decay: float

    def __str__(self) -> str:
        return f"{self.name}: {self.parameters:,} parameters, rate {self.lr:.3g}, decay {self.weight_decay:.3g}"


def parameter_groups(
    model: nn.Module,
    weight_decay: float = 0.0,
    layer_decay: float = 1.0,
    lr_of: Sequence[str] = (),
    factors: Mapping[str, float] | None = None,
) -> list[Group]:
    """The weights of `model` that train, as an optimiser takes them; `scale` is the factor of a group's rate.

    A weight's factor is the product of `layer_decay` to the number of levels between it and the head (Howard & Ruder 2018),
    of the first of `lr_of` ("PATTERN=FACTOR") that its name matches, and of `factors[name]`. Vectors do not decay. `hidden`
    marks matrices of blocks. Raises ConfigError for a pattern that matches nothing, or where nothing trains.
    """
    train = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not train:
        raise ConfigError("nothing trains: the tuning method froze every weight")
    scales = _by_pattern(lr_of, train)
    depth, own = depths(model), factors or {}
    top = max(depth.values())
    found: dict[tuple[str, float], Group] = {}
    for name, parameter in train.items():
        scale = scales[name] * own.get(name, 1.0) * layer_decay ** (top - depth[name])
        matrix, hidden = parameter.ndim >= 2, parameter.ndim == 2 and 0 < depth[name] < top
        kind = "matrices of blocks" if hidden else "other matrices" if matrix else "vectors"
        fresh = {"params": [], "weight_decay": weight_decay if matrix else 0.0}
        group = found.setdefault((kind, scale), {**fresh, "scale": scale, "name": kind, "hidden": hidden})
        group["params"].append(parameter)
        group["numbers"] = group.get("numbers", 0) + parameter.numel()  # ZeRO leaves the group pieces, or none
    groups = list(found.values())
    listed = [id(p) for group in groups for p in group["params"]]
    assert sorted(listed) == sorted(map(id, train.values())), "every weight that trains is in exactly one group"
    return groups


def describe(groups: Iterable[Group], lr: float) -> list[Described]:
    """One line for each of an optimiser's groups; lr: the highest rate of the schedule."""
    return [
        Described(
            group["name"] + (f" x {group['scale']:.3g}" if group["scale"] != 1 else ""),
            group["numbers"],
            lr * group["scale"],
            group["weight_decay"],
        )
        for group in groups
    ]


def parse_pattern(text: str) -> tuple[str, float]:
    """'PATTERN=FACTOR' as the two. Raises ConfigError where it is something else."""
    pattern, equals, number = text.rpartition("=")
    try:
        factor = float(number)
    except ValueError:
        factor = math.nan
    if not pattern or not equals or not 0 < factor < math.inf:
        raise ConfigError(f"optim.lr_of {text!r}: a pattern of names, '=', and a factor above 0, as in '*lm_head*=10'")
    return pattern, factor


def _by_pattern(lr_of: Sequence[str], names: Iterable[str]) -> dict[str, float]:
    """Factor of each of `names`: that of the first pattern that it matches, else 1."""
    pairs = [parse_pattern(text) for text in lr_of]
    for pattern, _ in pairs:
        if not any(fnmatchcase(name, pattern) for name in names):
            shown = ", ".join(list(names)[:8])
            raise ConfigError(f"optim.lr_of {pattern!r}: no weight that trains has such a name; there are {shown} ...")
    return {name: next((factor for pattern, factor in pairs if fnmatchcase(name, pattern)), 1.0) for name in names}
