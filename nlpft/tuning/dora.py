"""DoRA: a weight's magnitude trains by itself, its direction by LoRA (Liu et al. 2024), in PEFT's format."""

from dataclasses import dataclass
from typing import Any, Literal

from nlpft.tuning import _adapter
from nlpft.tuning._adapter import rate_factors

__all__ = ["Config", "apply", "rate_factors"]


@dataclass(frozen=True)
class Config(_adapter.Settings):
    name: Literal["dora"] = "dora"


def apply(model: Any, config: Config) -> Any:
    return _adapter.add(model, config, use_dora=True)
