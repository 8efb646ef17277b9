"""What Accelerate is told about processes beyond its configuration file."""

from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy


def prepared(accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
    """Model and optimiser as this launch spreads them. Under FSDP2 gradients are summed in float32, as DDP sums them."""
    if accelerator.is_fsdp2:
        plugin = accelerator.state.fsdp_plugin
        compute = plugin.mixed_precision_policy and plugin.mixed_precision_policy.param_dtype
        plugin.mixed_precision_policy = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32)
    return accelerator.prepare(model, optimizer)
