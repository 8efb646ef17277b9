"""What weights become when they are read into 4 bits, nf4 with double quantisation (Dettmers et al. 2023), as QLoRA's base is."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from torch import Tensor, nn

from nlpft.errors import ConfigError


def check_possible() -> None:
    """Raise ConfigError without bitsandbytes."""
    if find_spec("bitsandbytes") is None:
        raise ConfigError('--four_bits needs bitsandbytes: pip install "nlpft[qlora]"; or leave it out')


def quantized(weight: Tensor) -> Tensor:
    """`weight` (float32, two dimensions) through 4 bits and back."""
    from bitsandbytes import functional  # optional

    packed, state = functional.quantize_4bit(weight.contiguous(), quant_type="nf4", compress_statistics=True)
    return functional.dequantize_4bit(packed, state).to(weight.dtype)


def reading(read: Callable[[str], Tensor], model: Any) -> Callable[[str], Tensor]:
    """`read` with the weights in 4 bits that transformers holds so: of linear layers, but of the output projection."""
    names = linear(model)
    return lambda name: quantized(read(name)) if name in names else read(name)


def quantize(model: Any) -> nn.Module:
    """`model` with these weights through 4 bits and back, in place."""
    for name in linear(model):
        weight = model.get_parameter(name)
        weight.data = quantized(weight.data)
    return model


def linear(model: Any) -> set[str]:
    """Names of the weights that would lie in 4 bits."""
    head = model.get_output_embeddings()
    return {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head}
