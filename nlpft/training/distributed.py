"""What Accelerate is told about processes beyond its configuration file."""

from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy

from nlpft.errors import ConfigError
from nlpft.models.load import is_sharded
from nlpft.training.optimizers import changed


def prepared(accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
    """Model and optimiser as this launch spreads them. Under FSDP2 gradients are summed in float32, as DDP sums them."""
    if accelerator.is_fsdp2:
        if hasattr(model, "first_adapter"):  # what is saved is the difference to it, which PEFT makes of whole weights
            raise ConfigError(
                "tuning.init pissa cannot be saved from parts of weights, as FSDP2 has them; launch ddp.yaml"
            )
        plugin = accelerator.state.fsdp_plugin
        compute = plugin.mixed_precision_policy and plugin.mixed_precision_policy.param_dtype
        plugin.mixed_precision_policy = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32)
    begun = list(optimizer.state.values())  # Adagrad's, of the whole weights
    model, optimizer = accelerator.prepare(model, optimizer)
    if begun and is_sharded(model):
        optimizer.state.clear()
        for weight, state in zip(changed(optimizer), begun, strict=True):
            optimizer.state[weight] = {key: _begun(weight, value) for key, value in state.items()}
    return model, optimizer


def _begun(weight: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """`value`, the same number everywhere if it is of a weight's size, for a weight in parts."""
    return torch.full_like(weight, value.flatten()[0].item(), requires_grad=False) if value.ndim else value
