"""Every weight is trained."""

from dataclasses import dataclass
from typing import Literal

from torch import nn


@dataclass(frozen=True)
class Config:
    name: Literal["full"] = "full"


def apply(model: nn.Module, config: Config) -> nn.Module:
    return model.requires_grad_(True)
