"""LoRA: low-rank updates beside frozen weights (Hu et al. 2021), in PEFT's format."""

from dataclasses import dataclass
from typing import Literal

import peft
from torch import nn

from nlpft.errors import ConfigError


@dataclass(frozen=True)
class Config:
    name: Literal["lora"] = "lora"
    rank: int = 16
    """Rank of the update."""
    alpha: float = 32.0
    """The update is scaled by alpha / rank."""
    dropout: float = 0.0
    """Share of the update's inputs that are dropped."""
    targets: tuple[str, ...] = ("all-linear",)
    """Names of the linear modules that get an update; all-linear: every one but the output projection."""


def apply(model: nn.Module, config: Config) -> nn.Module:
    if config.rank < 1:
        raise ConfigError(f"tuning.rank {config.rank}: a rank is at least 1")
    if not 0 <= config.dropout < 1:
        raise ConfigError(f"tuning.dropout {config.dropout}: a share from 0 to below 1")
    targets = "all-linear" if config.targets == ("all-linear",) else list(config.targets)
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # PEFT's hint says int, its arithmetic takes any number
        lora_dropout=config.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    try:
        return peft.get_peft_model(model, settings)
    except ValueError as error:
        linear = sorted({name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, nn.Linear)})
        raise ConfigError(
            f"tuning.targets {' '.join(config.targets)}: {error}; linear modules here: {', '.join(linear)}"
        ) from error
