"""Products in float8 (e4m3, Micikevicius et al. 2022), which a GPU of Hopper's kind multiplies at twice the rate of bfloat16.

Frozen weights under adapters are cast once, in both layouts that the two products of a step want: together as large as in
bfloat16. What trains is cast in every step by torchao. Each token and each output has a scale of its own, a power of two: so
a row of a pack notices nothing of the others, and scaling back rounds nothing.
"""

from collections.abc import Iterator
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nlpft.errors import ConfigError
from nlpft.models.adapters import is_folded
from nlpft.models.blocks import blocks

KIND = torch.float8_e4m3fn  # up to 448, 3 bits of mantissa
CAPABILITY = (8, 9)  # of the first GPUs that multiply it
MULTIPLE = 16  # of widths, as cuBLAS wants them


def check(device: torch.device) -> None:
    """Raise ConfigError where `device` multiplies no float8."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < CAPABILITY:
        raise ConfigError(
            f"compute.float8: {device.type} of this machine has no float8 products (GPUs of compute capability 8.9 and "
            "higher do: Ada, Hopper, Blackwell); leave it false"
        )


def convert(model: nn.Module, device: torch.device) -> nn.Module:
    """`model`, in place, with the linear layers of its blocks in float8; head, embeddings and adapters stay as they are.

    Raises ConfigError where whole weights are to be trained and torchao is not installed.
    """
    if not hasattr(model, "peft_config"):
        return _by_torchao(model)
    for layer in _frozen(model):
        freeze(layer, device)
    return model


def multiplies(model: nn.Module) -> bool:
    """Whether `model` has layers in float8."""
    return any(p.dtype == KIND for p in model.parameters()) or any(
        type(m).__module__.startswith("torchao.") for m in model.modules()
    )


def _frozen(model: nn.Module) -> Iterator[nn.Linear]:
    """Linear layers that nobody saves, trains, or reads the weight of: DoRA reads its base's."""
    read = {id(m.base_layer) for m in model.modules() if hasattr(m, "base_layer") and not is_folded(m)}
    for layer in blocks(model).modules():
        if type(layer) is nn.Linear and _fits(layer) and not layer.weight.requires_grad and id(layer) not in read:
            yield layer


def _fits(layer: nn.Linear) -> bool:
    return layer.in_features % MULTIPLE == 0 and layer.out_features % MULTIPLE == 0


@torch.no_grad()
def freeze(layer: nn.Linear, device: torch.device) -> None:
    """Cast the weight of `layer` to float8 on `device` for good, in place; its output keeps its input's type."""
    weight, scale = cast(layer.weight.to(device))
    # Parameters, since DistributedDataParallel sends buffers to all processes in every step.
    layer.weight = nn.Parameter(weight, requires_grad=False)
    layer.weight_across = nn.Parameter(weight.t().contiguous(), requires_grad=False)
    layer.weight_scale = nn.Parameter(scale[:, 0], requires_grad=False)
    layer.forward = MethodType(_forward, layer)  # type: ignore[method-assign]


def _forward(layer: Any, x: Tensor) -> Tensor:
    kind = x.device.type
    x = x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x
    out = _FrozenProduct.apply(x.flatten(0, -2), layer.weight, layer.weight_across, layer.weight_scale)
    out = out.unflatten(0, x.shape[:-1])
    return out if layer.bias is None else out + layer.bias.to(out.dtype)


class _FrozenProduct(torch.autograd.Function):
    """x [tokens, in] times a frozen weight [out, in] with scales [out]; `across` is the weight [in, out]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, across: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(across, scale)
        return product(x, weight) * scale.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        across, scale = ctx.saved_tensors
        return product(upstream * scale.to(upstream.dtype), across), None, None, None


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x [tokens, in], cast here, times `weight` [out, in] of float8 without its scales: [tokens, out] in x's type."""
    rows, scale = cast(x)
    # cuBLAS with one scale outruns the kernels with a scale for each row; a compiler puts the factor into what follows.
    one = torch.ones((), device=x.device)
    out = torch._scaled_mm(rows, weight.t(), one, one, out_dtype=x.dtype, use_fast_accum=True)
    return out * scale.to(x.dtype)


def cast(x: Tensor) -> tuple[Tensor, Tensor]:
    """`x` [rows, width] in float8, and the powers of two [rows, 1], float32, by which its rows are to be multiplied.

    What is not finite stays so in the product.
    """
    # In float32 before the maximum: a compiler keeps a bfloat16 one both rounded and not, with two powers of two below them.
    largest = x.float().abs().amax(1, keepdim=True).clamp(min=2.0**-100)  # above zero, for rows of zeros
    # Its exponent alone, so no rounding; the largest of a row is between 128 and 256 then.
    scale = (largest.view(torch.int32) & 0x7F800000).view(torch.float32) * 2.0**-7
    return (x.float() * scale.reciprocal()).to(KIND), scale


def _by_torchao(model: nn.Module) -> nn.Module:
    try:
        from torchao.float8 import Float8LinearConfig, convert_to_float8_training
    except ImportError as error:
        raise ConfigError("compute.float8: to train whole weights so, pip install 'nlpft[float8]'") from error
    convert_to_float8_training(
        blocks(model),
        config=Float8LinearConfig.from_recipe_name("rowwise"),
        module_filter_fn=lambda layer, name: type(layer) is nn.Linear and _fits(layer),
    )
    return model
