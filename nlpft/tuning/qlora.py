"""QLoRA: LoRA beside weights that lie in 4 bits, nf4 with double quantisation (Dettmers et al. 2023), by bitsandbytes."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import torch
from peft.utils.loftq_utils import replace_lora_weights_loftq
from transformers import BitsAndBytesConfig

from nlpft.errors import ConfigError
from nlpft.models.pretrained import resolve
from nlpft.tuning import _adapter
from nlpft.tuning._adapter import rate_factors

__all__ = ["Config", "apply", "load_options", "rate_factors"]


@dataclass(frozen=True)
class Config(_adapter.Settings):
    name: Literal["qlora"] = "qlora"
    init: Literal["default", "loftq"] = "default"
    """default: the update begins at zero. loftq: with what is nearest to the error of the 4 bits (LoftQ, Li et al. 2023); such an
    adapter belongs to the base in 4 bits, beside whole weights it adds that error."""


def load_options(config: Config, dtype: torch.dtype) -> dict[str, Any]:
    """Weights are read into 4 bits and multiplied in `dtype`. Raises ConfigError without bitsandbytes."""
    if find_spec("bitsandbytes") is None:
        raise ConfigError('tuning.name qlora needs bitsandbytes: pip install "nlpft[qlora]"; or take lora')
    settings = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    return {"quantization_config": settings}


def apply(model: Any, config: Config) -> Any:
    if not getattr(model, "is_loaded_in_4bit", False):
        raise ConfigError(
            "tuning.name qlora: the model was not loaded in 4 bits; load it with this method's load_options"
        )
    if config.init == "loftq" and not torch.cuda.is_available():
        raise ConfigError(
            "tuning.init loftq: PEFT decomposes the error of 4 bits on a GPU, there is none; take default"
        )
    adapted = _adapter.add(model, config)
    if config.init == "loftq":
        try:
            replace_lora_weights_loftq(adapted, str(resolve(model.name_or_path)))
        except FileNotFoundError as error:
            raise ConfigError(f"tuning.init loftq: reads the whole weights again, as safetensors: {error}") from error
    return adapted
