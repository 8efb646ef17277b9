"""LoRA's arithmetic without detours: PEFT's modules, weights and files, multiplied in the base's type with the scale folded in.

PEFT casts a layer's input to the adapter's float32, multiplies, and scales the result [tokens, width]: passes over device memory
that cost a fifth of a step. Here the float32 masters are cast (they are small), and the scale goes into the smaller factor.
"""

from types import MethodType
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


def fold(model: nn.Module) -> nn.Module:
    """`model`, in place; what is no plain LoRA on a linear layer (DoRA, biases, several adapters) keeps PEFT's own forward."""
    if hasattr(model, "peft_config"):
        from peft.tuners.lora import Linear  # loaded already by whoever made the adapter

        for module in model.modules():
            if isinstance(module, Linear) and _is_plain(module):
                module.forward = MethodType(_forward, module)  # type: ignore[method-assign]
    return model


def _is_plain(module: Any) -> bool:
    return (
        not module.lora_variant
        and not module.fan_in_fan_out
        and not any(b.bias is not None for b in module.lora_B.values())
    )


def _forward(module: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if args or kwargs or module.disable_adapters or module.merged or len(module.active_adapters) != 1:
        return type(module).forward(module, x, *args, **kwargs)
    (name,) = module.active_adapters
    result = module.base_layer(x)
    down, up = (weights[name].weight for weights in (module.lora_A, module.lora_B))
    inner = F.linear(module.lora_dropout[name](x).to(result.dtype), down.to(result.dtype))
    return result + F.linear(inner, (up * module.scaling[name]).to(result.dtype))
