"""The student: a pretrained model, or only its first blocks, and what brings its hidden states to the teacher's width."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from nlpft.distillation import states
from nlpft.distillation.settings import DistillationConfig
from nlpft.errors import ConfigError
from nlpft.models.blocks import blocks
from nlpft.models.load import load_model

PROJECTIONS = "distillation"  # child of the student; not saved with it


@dataclass(frozen=True)
class StudentConfig:
    blocks: int | None = None
    """First blocks of `model` that the student begins with; not set: all."""


def load_student(name: str, dtype: str = "auto", *, config: StudentConfig, **options: Any) -> nn.Module:
    """As `load_model`, with the first of its blocks only. Raises ConfigError where it has not so many."""
    model: Any = load_model(name, dtype, **options)
    return model if config.blocks is None else cut(model, config.blocks, name)


def cut(model: Any, count: int, name: str) -> Any:
    """`model`, in place, with its first `count` blocks; what comes behind them stays."""
    stack = blocks(model)
    if not 1 <= count <= len(stack):
        raise ConfigError(f"student.blocks {count}: {name} has {len(stack)} blocks; from 1 to {len(stack)}")
    before = len(stack)
    del stack[count:]
    config = model.config.get_text_config()
    config.num_hidden_layers = count
    if len(getattr(config, "layer_types", None) or ()) == before:
        config.layer_types = config.layer_types[:count]
    return model


def check_tuning(model: Any, config: StudentConfig) -> None:
    """Raise ConfigError where an adapter would be saved that later is put on all blocks of its base."""
    if config.blocks is not None and hasattr(model, "peft_config"):
        raise ConfigError(
            "student.blocks: an adapter is put on its base when it is loaded, and that has all blocks; set tuning.name full"
        )


def add_projections(model: Any, teacher: Any, config: DistillationConfig) -> Any:
    """`model`, in place, with a matrix for each pair of blocks that brings its hidden states to the teacher's width, if need be.

    teacher: None where none is asked. Raises ConfigError where the widths differ and no projection is allowed. Call it before the
    optimiser is made.
    """
    if teacher is None or not config.hidden or (own := states.width(model)) == (wanted := states.width(teacher)):
        return model
    if not config.projection:
        raise ConfigError(
            f"distillation.hidden {config.hidden}: hidden states of the student have {own} numbers, the teacher's {wanted}; set "
            "distillation.projection true, or hidden to 0 and relations, which need no equal widths, to 1"
        )
    first = next(model.parameters())
    made = {str(n): nn.Linear(own, wanted, bias=False, device=first.device) for n in range(len(blocks(model)))}
    setattr(model, PROJECTIONS, nn.ModuleDict(made))
    return model


def projections(model: Any) -> list[Any]:
    """For each block of `model` (unwrapped), what `add_projections` has put there, or None."""
    made = getattr(model, PROJECTIONS, None)
    return [made[str(n)] if made is not None else None for n in range(len(blocks(model)))]


def without_projections(model: Any) -> Any:
    """`model` (unwrapped), in place, as it is to be saved."""
    if PROJECTIONS in dict(model.named_children()):
        delattr(model, PROJECTIONS)
    return model
