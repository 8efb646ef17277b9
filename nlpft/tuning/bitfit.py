"""BitFit: only the biases are trained (Ben Zaken et al. 2022)."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from nlpft.errors import ConfigError
from nlpft.tuning._parts import train_only


@dataclass(frozen=True)
class Config:
    name: Literal["bitfit"] = "bitfit"


def apply(model: nn.Module, config: Config) -> nn.Module:
    biases = {name for name, _ in model.named_parameters() if name.rpartition(".")[2] == "bias"}
    if not biases:
        raise ConfigError(
            f"tuning.name bitfit: {type(model).__name__} has no biases; the nearest to it here is "
            "--tuning.name freeze --tuning.train_last 0 --tuning.patterns '*norm*', or lora"
        )
    return train_only(model, biases.__contains__)
