"""The three kinds of language models, and what each asks of batches: decoders, encoders, encoder-decoders."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from nlpft.errors import ConfigError, ModelError
from nlpft.models import encoder_decoder, forward, load, masked
from nlpft.models.pretrained import resolve

Name = Literal["decoder", "encoder", "encoder-decoder"]


class Kind(NamedTuple):
    """What models of one kind have in common."""

    name: Name
    objectives: tuple[str, ...]  # that such models are pretrained by
    auto: Any  # transformers' class that loads them with their language-modelling head
    context: Callable[[Any], int | None]  # tokens that a model can see
    check: Callable[[nn.Module, dict[str, Tensor]], Any]  # raises ModelError where a batch is not exact
    fixed_shapes: bool  # whether batches can have the same shape in every step, as compiled code wants it


def no_check(model: nn.Module, batch: dict[str, Tensor]) -> None:
    """Rows of a padded batch are apart by transformers' own masks."""


KINDS = {
    kind.name: kind
    for kind in (
        Kind("decoder", ("causal_lm",), AutoModelForCausalLM, load.context, forward.check_isolation, True),
        Kind("encoder", ("masked_lm",), AutoModelForMaskedLM, masked.context, masked.check_isolation, True),
        Kind("encoder-decoder", ("denoising",), AutoModelForSeq2SeqLM, encoder_decoder.context, no_check, False),
    )
}


def of_config(config: Any) -> Name:
    """The kind of model that a transformers configuration describes."""
    if getattr(config, "is_encoder_decoder", False):
        return "encoder-decoder"
    masks = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return "encoder" if masks and not getattr(config, "is_decoder", False) else "decoder"


def check(model: str, objective: str, kind: Name) -> Kind:
    """What models of `kind` have in common. Raises ConfigError where `model` is of another, ModelError where it has no config."""
    folder = resolve(model, weights=False)
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: its config.json cannot be read: {error}") from error
    return check_kind(config, model, objective, kind)


def check_kind(config: Any, name: str, objective: str, kind: Name) -> Kind:
    """As `check`, of a configuration that is called `name`."""
    found = KINDS[of_config(config)]
    if found.name != kind:
        raise ConfigError(
            f"objective.name {objective}: is for {kind}s, and {name} ({config.model_type}) is {_a(found.name)}; set "
            f"objective.name {' or '.join(found.objectives)}, or choose another model"
        )
    return found


def _a(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
