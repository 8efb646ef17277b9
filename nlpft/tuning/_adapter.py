"""What LoRA and its relatives have in common: PEFT's adapters, with targets and ranks checked before anything is added."""

from dataclasses import dataclass
from typing import Any

import peft
from torch import nn
from transformers.pytorch_utils import Conv1D

from nlpft.errors import ConfigError
from nlpft.models.heads import head_modules
from nlpft.models.kinds import of_config

ALL_LINEAR = ("all-linear",)


@dataclass(frozen=True)
class Settings:
    name: str = ""
    rank: int = 16
    """Rank of the update."""
    alpha: float = 32.0
    """The update is scaled by alpha / rank."""
    dropout: float = 0.0
    """Share of the update's inputs that are dropped."""
    targets: tuple[str, ...] = ALL_LINEAR
    """Names of the linear modules that get an update; all-linear: every one but the output projection."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank) in place of alpha / rank, for high ranks (Kalajdzievski 2023)."""
    lr_ratio: float = 1.0
    """How many times faster the matrix that begins at zero (B) learns; LoRA+ (Hayou et al. 2024) advises about 16."""


def add(model: Any, config: Settings, **options: Any) -> Any:
    """`model` with PEFT's adapters; options: more of its LoraConfig. Raises ConfigError for settings that do not fit it."""
    check(model, config)
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # PEFT's hint says int, its arithmetic takes any number
        lora_dropout=config.dropout,
        target_modules="all-linear" if config.targets == ALL_LINEAR else list(config.targets),
        use_rslora=config.rslora,
        **_head(model),
        **options,
    )
    try:
        return peft.get_peft_model(model, settings)
    except ValueError as error:
        raise ConfigError(f"tuning.targets {' '.join(config.targets)}: {error}") from error


def _head(model: Any) -> dict[str, Any]:
    """PEFT's name for what the model does, and the modules of a head, which train as they are and are saved with the adapter."""
    if not hasattr(model, "task"):
        return {"task_type": _language_task(model.config)}
    kind = "TOKEN_CLS" if model.task.kind == "tagging" else "SEQ_CLS"
    return {"task_type": kind, "modules_to_save": head_modules(model)}


def _language_task(config: Any) -> str | None:
    """PEFT's name for what a language model does; it has none for guessing hidden tokens."""
    kind = of_config(config)
    return {"decoder": "CAUSAL_LM", "encoder-decoder": "SEQ_2_SEQ_LM"}.get(kind)


def rate_factors(model: nn.Module, config: Settings) -> dict[str, float]:
    """LoRA+: the factor of each B's rate."""
    if config.lr_ratio == 1:
        return {}
    return {name: config.lr_ratio for name, _ in model.named_parameters() if ".lora_B." in name}


def check(model: Any, config: Settings) -> None:
    """Raise ConfigError for numbers that mean nothing, targets that are not there, and ranks larger than a matrix."""
    if config.rank < 1:
        raise ConfigError(f"tuning.rank {config.rank}: a rank is at least 1")
    if not 0 <= config.dropout < 1:
        raise ConfigError(f"tuning.dropout {config.dropout}: a share from 0 to below 1")
    if not config.lr_ratio > 0:
        raise ConfigError(f"tuning.lr_ratio {config.lr_ratio}: a factor above 0")
    for name, (rows, columns) in targeted(model, config.targets).items():
        if config.rank > min(rows, columns):
            raise ConfigError(
                f"tuning.rank {config.rank}: {name} is a matrix of {rows} x {columns}, whose rank is {min(rows, columns)} at "
                "most; lower it, or choose other tuning.targets"
            )


def targeted(model: Any, targets: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """Size of each matrix that `targets` name, by its module's name. Raises ConfigError for a target that names none."""
    modules = dict(model.named_modules())
    sizes = {name: size for name, module in modules.items() if (size := matrix_size(module))}
    if targets == ALL_LINEAR:
        head, own = model.get_output_embeddings(), set(head_modules(model))
        skipped = {n for n in sizes if isinstance(modules[n], nn.Embedding) or modules[n] is head or n in own}
        return {name: size for name, size in sizes.items() if name not in skipped}
    found = {target: [name for name in sizes if f".{name}".endswith(f".{target}")] for target in targets}
    missing = [target for target, names in found.items() if not names]
    if missing:
        there = ", ".join(sorted({name.rpartition(".")[2] for name in sizes}))
        raise ConfigError(f"tuning.targets {' '.join(missing)}: the model has no such linear module; there are {there}")
    return {name: sizes[name] for names in found.values() for name in names}


def matrix_size(module: Any) -> tuple[int, int] | None:
    """Outputs and inputs of a module that PEFT can adapt; a weight in 4 bits does not show them in its shape."""
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    if isinstance(module, (nn.Embedding, Conv1D)):
        return tuple(module.weight.shape)  # type: ignore[return-value]
    return None
