"""A frozen body's features, computed once before a head trains on them."""

from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from nlpft.data.examples import Examples, ExamplesConfig
from nlpft.data.features import Features, smote
from nlpft.data.loader import Share
from nlpft.errors import ConfigError
from nlpft.models import head_forward
from nlpft.models.heads import in_head
from nlpft.training.loop import to_device


def computed_once(accelerator: Accelerator, model: Any, data: Examples, config: ExamplesConfig, seed: int) -> Examples:
    """`data`, or, where `config` says so, its features with what SMOTE adds to them; every process computes all of them.

    model: prepared. Raises ConfigError where more than the head trains, or the model takes no packed rows.
    """
    if config.features == "each_step" and config.sampling != "smote":
        return data
    check(model, data)
    model.eval()
    found = torch.empty(0)
    for rows, batch in data.micro_batches(np.arange(len(data)), config, Share()):
        made = head_forward.features(model, to_device(batch, accelerator.device)).float().cpu()
        found = found if len(found) else made.new_empty(len(data), made.shape[1])
        found[rows] = made
    features, targets, places = found.numpy(), data.targets, data.places(range(len(data)))
    if config.sampling == "smote":
        features, targets = smote(features, targets, seed)
        places += [f"SMOTE {number}" for number in range(len(targets) - len(places))]
    return Features(data.folder, data.layout, features, targets, places)


def check(model: Any, data: Examples) -> None:
    """Raise ConfigError where features of before training would not be those that the head meets."""
    own = getattr(model, "module", model)
    trained = [name for name, weight in own.named_parameters() if weight.requires_grad and not in_head(own, name)]
    if trained:
        raise ConfigError(
            f"data.features once: {trained[0]} trains, and with it the features; take --tuning.name head_only"
        )
    if not data.layout.packed:
        raise ConfigError(f"data.features once: {type(own).__name__} takes no rows without padding; leave it unset")
