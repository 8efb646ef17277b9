"""Linear probing: only the output projection is trained, on features as they were pretrained (Alain & Bengio 2016)."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from nlpft.tuning._parts import head_names, train_only


@dataclass(frozen=True)
class Config:
    name: Literal["head_only"] = "head_only"


def apply(model: nn.Module, config: Config) -> nn.Module:
    """Where the projection is tied to the embeddings, they are trained with it: it is one weight."""
    return train_only(model, head_names(model).__contains__)
