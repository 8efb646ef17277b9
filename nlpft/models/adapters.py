"""LoRA's arithmetic without detours: PEFT's modules, weights and files, multiplied in the base's type with the scale folded in.

PEFT casts a layer's input to the adapter's float32, multiplies, and scales the result [tokens, width]: passes over device memory
that cost a fifth of a step. Here the float32 masters are cast (they are small), the scale goes into the smaller factor, and
layers that read the same input share one product with it.
"""

from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Layers of one parent that get the same input in transformers' architectures; where they do not, they compute as if alone.
SHARED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"), ("query", "key", "value"), ("w1", "w3"))


@dataclass
class _Shared:
    """Layers of one input, and between the calls of the first and the last of them that input and its products."""

    layers: tuple[Any, ...]
    x: Tensor | None = None
    inner: tuple[Tensor, ...] = ()


def fold(model: nn.Module) -> nn.Module:
    """`model`, in place; what is no plain LoRA on a linear layer (DoRA, biases, several adapters) keeps PEFT's own forward."""
    if hasattr(model, "peft_config"):
        from peft.tuners.lora import Linear  # loaded already by whoever made the adapter

        for module in model.modules():
            if isinstance(module, Linear) and _is_plain(module):
                module.forward = MethodType(_forward, module)  # type: ignore[method-assign]
        for parent in model.modules():
            _share(parent)
    return model


def all_folded(model: nn.Module) -> bool:
    """Whether every adapted layer of `model`, if there are any, computes by this file."""
    if not hasattr(model, "peft_config"):
        return True
    from peft.tuners.tuners_utils import BaseTunerLayer

    return all(is_folded(module) for module in model.modules() if isinstance(module, BaseTunerLayer))


def _is_plain(module: Any) -> bool:
    return (
        not module.lora_variant
        and not module.fan_in_fan_out
        and not any(b.bias is not None for b in module.lora_B.values())
    )


def _share(parent: nn.Module) -> None:
    children = dict(parent.named_children())
    for names in SHARED:
        layers = tuple(children[name] for name in names if is_folded(children.get(name)))
        if len(layers) > 1:
            # Not as attributes that nn.Module would take for its children.
            shared = _Shared(layers)
            for place, layer in enumerate(layers):
                layer.__dict__["nlpft_shared"] = shared, place


def is_folded(module: Any) -> bool:
    """Whether `module` is an adapted layer whose arithmetic is this file's."""
    return getattr(getattr(module, "forward", None), "__func__", None) is _forward


def _forward(module: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if args or kwargs or not _is_on(module):
        return type(module).forward(module, x, *args, **kwargs)
    (name,) = module.active_adapters
    result = module.base_layer(x)
    up = module.lora_B[name].weight
    return result + F.linear(_inner(module, x, name, result.dtype), (up * module.scaling[name]).to(result.dtype))


def _is_on(module: Any) -> bool:
    return not module.disable_adapters and not module.merged and len(module.active_adapters) == 1


def _inner(module: Any, x: Tensor, name: str, dtype: torch.dtype) -> Tensor:
    """`x` times the adapter's first factor: [..., rank]."""
    shared, place = vars(module).get("nlpft_shared", (None, 0))
    if shared is None or not all(_joins(layer, name) for layer in shared.layers):
        return F.linear(module.lora_dropout[name](x).to(dtype), module.lora_A[name].weight.to(dtype))
    if shared.x is not x:
        factors = [layer.lora_A[name].weight for layer in shared.layers]
        product = F.linear(x.to(dtype), torch.cat(factors).to(dtype))
        shared.x, shared.inner = x, product.split([len(factor) for factor in factors], -1)
    inner = shared.inner[place]
    if place == len(shared.layers) - 1:
        shared.x, shared.inner = None, ()  # or it would outlive the step
    return inner


def _joins(layer: Any, name: str) -> bool:
    """Whether `layer` reads its input as it is: dropout draws for each layer anew."""
    return _is_on(layer) and name in layer.lora_A and isinstance(layer.lora_dropout[name], nn.Identity)
