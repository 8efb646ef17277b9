"""LoRA: low-rank updates beside frozen weights (Hu et al. 2021), in PEFT's format; with rsLoRA, PiSSA and LoRA+."""

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nlpft.tuning import _adapter
from nlpft.tuning._adapter import rate_factors

__all__ = ["Config", "apply", "rate_factors"]


@dataclass(frozen=True)
class Config(_adapter.Settings):
    name: Literal["lora"] = "lora"
    init: Literal["default", "pissa"] = "default"
    """default: the update begins at zero. pissa: with the largest singular values of the weight, which keeps the others
    (Meng et al. 2024); the adapter is saved as a plain one of twice the rank, for the weights as they were."""


def apply(model: Any, config: Config) -> Any:
    if config.init == "default":
        return _adapter.add(model, config)
    return saved_as_plain(_adapter.add(model, config, init_lora_weights="pissa"))


def saved_as_plain(model: Any) -> Any:
    """`model`, whose `save_pretrained` writes the difference to the adapter that it has now.

    PiSSA takes its first update out of the base's weights: as it stands, the adapter would be wrong on the base that users have.
    """
    model.peft_config["default"].init_lora_weights = True  # who loads the adapter must not decompose the weights again
    kept = tempfile.TemporaryDirectory(prefix="nlpft-")
    first = Path(kept.name) / "first"
    model.save_pretrained(first, save_embedding_layers=False)
    save = functools.partial(model.save_pretrained, path_initial_model_for_weight_conversion=str(first))
    model.save_pretrained, model.first_adapter = save, kept  # the folder goes when the model goes
    return model
