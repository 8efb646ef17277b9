"""What Accelerate is told about processes beyond its configuration file."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers.integrations import unset_hf_deepspeed_config

from nlpft.errors import ConfigError
from nlpft.models.load import is_sharded
from nlpft.training import zero
from nlpft.training.optimizers import changed


def load_whole(accelerator: Accelerator) -> None:
    """Have models that are loaded from here on be whole, whatever the launch; `prepared` spreads them."""
    if zero.is_zero(accelerator):
        unset_hf_deepspeed_config()  # transformers would cut them for ZeRO-3, and tuning methods change whole ones


def prepared(
    accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer, max_grad_norm: float
) -> tuple[Any, Any]:
    """Model and optimiser as this launch spreads them. Under FSDP2 gradients are summed in float32, as DDP sums them.

    max_grad_norm: what the loop will clip to, which DeepSpeed does itself. Raises ConfigError for what the launch cannot train.
    """
    if zero.is_zero(accelerator):
        return zero.prepared(accelerator, model, optimizer, max_grad_norm)
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


def accumulation(accelerator: Accelerator, model: nn.Module) -> Callable[[bool], AbstractContextManager[None]]:
    """What is put around the passes of a micro-batch, told whether it is its step's last: behind that gradients are summed.

    Sharded ones are summed at once: what waits would have to be whole.
    """
    at_once = zero.is_zero(accelerator) or is_sharded(model)

    def accumulating(last: bool) -> AbstractContextManager[None]:
        accelerator.sync_gradients = last  # DeepSpeed is told so, and waits itself where it can
        return nullcontext() if last or at_once else accelerator.no_sync(model)

    return accumulating
