"""Noise in training: NEFTune on the embeddings (Jain et al. 2023), and the share of the model's own dropout."""

from typing import Any

import torch
from torch import Tensor, nn

from nlpft.errors import ConfigError

# What transformers' attentions call the share that they drop, where it is no nn.Dropout.
DROPOUTS = ("attention_dropout", "attn_dropout", "dropout", "dropout_p", "attention_dropout_p")


def add_neftune(model: Any, alpha: float) -> None:
    """Add uniform noise of at most alpha / sqrt(tokens of the row * width) to the embeddings while `model` trains, in place.

    `model`: as transformers made it, called with position_ids [1, time] that begin anew with each row of a pack.
    """
    embeddings, decoder = model.get_input_embeddings(), model.base_model
    if getattr(model.config, "is_encoder_decoder", False):
        raise ConfigError(f"regularize.neftune {alpha}: {type(model).__name__} reads no packed rows; set it to 0")
    assert decoder is not model, "the head would be called by itself"

    def remember(module: nn.Module, args: Any, kwargs: Any) -> None:
        embeddings.places = kwargs.get("position_ids")

    def disturb(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if not module.training:
            return output
        bounds = noise_bound(embeddings.places, output.shape[-1], alpha)
        return output + torch.empty_like(output).uniform_(-1, 1) * bounds[..., None].to(output.dtype)

    decoder.register_forward_pre_hook(remember, with_kwargs=True)
    embeddings.register_forward_hook(disturb)
    embeddings.noise_alpha = alpha  # whoever asks whether the model draws random numbers finds it here


def noise_bound(position_ids: Tensor, width: int, alpha: float) -> Tensor:
    """Largest noise at each place [1, time] of a pack: every row's own length counts, not the pack's."""
    row = (position_ids == position_ids.min()).cumsum(1)  # RoBERTa counts from behind its padding
    lengths = row.new_zeros(1, row.shape[1] + 1).scatter_add_(1, row, torch.ones_like(row))
    return alpha / (lengths.gather(1, row) * width).float().sqrt()


def set_dropout(model: Any, share: float) -> None:
    """Set every dropout that `model` has to `share`, in place. Raises ConfigError where it has none to set."""
    found = False
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p, found = share, True
        for name in DROPOUTS:
            if isinstance(vars(module).get(name), int | float):
                setattr(module, name, share)
                found = True
    if not found:
        raise ConfigError(
            f"regularize.dropout {share}: {type(model).__name__} has no dropout; take tuning.dropout of lora, or "
            "regularize.neftune"
        )
    # Which attention serves a model, and whether it draws random numbers, is read from here.
    config = model.config.get_text_config()
    for name in ("attention_dropout", "attention_probs_dropout_prob"):
        if hasattr(config, name):
            setattr(config, name, share)
