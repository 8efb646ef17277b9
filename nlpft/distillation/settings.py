"""Settings of distillation, and how much the teacher weighs in each step."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nlpft.errors import ConfigError


@dataclass(frozen=True)
class DistillationConfig:
    teacher: str = ""
    """Model that answers: a hub id, a folder (also a run's), an adapter; not set: `model` with all of its blocks."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the teacher's weights; auto: float32 on the CPU, bfloat16 on a GPU."""
    answers: Path | None = None
    """Folder of the teacher's k likeliest tokens at each target of data.train: made if it is not there, then used in the
    teacher's place."""
    k: int = 64
    """Tokens that `answers` hold for each target; what all the others have counts as one."""
    match: Literal["soft", "hard"] = "soft"
    """What of the answers is learnt: their probabilities, or the likeliest token alone."""
    temperature: float = 2.0
    """Divides the logits of both where probabilities are learnt; their loss is multiplied by its square, which keeps the
    gradient's size."""
    weight: float = 0.5
    """Share of the teacher in the loss, from 0 (no teacher) to 1 (no labels)."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the weight goes on: it stays, or falls to 0 along a line or half a cosine, until `until`."""
    until: float = 1.0
    """Share of the steps behind which the teacher is not asked any more: distil, then fine-tune."""
    hidden: float = 0.0
    """Factor of the loss on the hidden states behind each block, within the teacher's share; 0: none, 1 is usual."""
    projection: bool = False
    """Whether hidden states of another width than the teacher's are projected to it, by matrices that are learnt too."""
    relations: float = 0.0
    """Factor of the loss on the relations among queries, keys and values of the last block (MiniLMv2, Wang et al. 2021), within
    the teacher's share; 0: none, 1 is usual."""
    relation_heads: int | None = None
    """Parts that queries, keys and values are cut into for relations; not set: the most that both models' heads allow."""


def check(config: DistillationConfig) -> None:
    """Raise ConfigError for settings that mean nothing."""
    check_shares(config, "distillation")
    if not 0 < config.until <= 1:
        raise ConfigError(f"distillation.until {config.until}: a share of the steps, above 0 and at most 1")
    if config.k < 1:
        raise ConfigError(f"distillation.k {config.k}: at least 1 token")
    if config.answers and inner(config):
        raise ConfigError(
            "distillation.answers: hold no hidden states and no relations; leave answers unset, or set hidden and relations to 0"
        )


def check_shares(config: Any, key: str) -> None:
    """Raise ConfigError for a temperature, weight or factor that means nothing. key: how the names of the settings begin."""
    if not 0 < config.temperature < math.inf:
        raise ConfigError(
            f"{key}.temperature {config.temperature}: divides logits, so it must be above 0; 1 leaves them, 2 to 4 are usual"
        )
    if not 0 <= config.weight <= 1:
        raise ConfigError(f"{key}.weight {config.weight}: a share from 0 to 1")
    for name in ("hidden", "relations"):
        if not 0 <= getattr(config, name) < math.inf:
            raise ConfigError(f"{key}.{name} {getattr(config, name)}: a factor, 0 or more")


def inner(config: Any) -> bool:
    """Whether more than the teacher's outputs is learnt."""
    return bool(config.hidden or config.relations)


def weight_at(config: DistillationConfig, step: int, max_steps: int) -> float:
    """The teacher's share in `step` (from 1) of `max_steps`."""
    last = config.until * max_steps
    if step > last:
        return 0.0
    done = max(0, step - 1) / last
    falls = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
    return config.weight * falls[config.schedule]
