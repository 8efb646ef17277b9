"""Four bits are nf4's sixteen values in each block, for the weights that transformers holds so."""

import pytest
import tiny
import torch

from nlpft.models import four_bits

pytest.importorskip("bitsandbytes")
LEVELS = [
    -1,
    -0.6962,
    -0.5251,
    -0.3949,
    -0.2844,
    -0.1848,
    -0.0911,
    0,
    0.0796,
    0.1609,
    0.2461,
    0.3379,
    0.4407,
    0.5626,
    0.7230,
    1,
]


def test_a_block_has_the_sixteen_values_of_nf4():
    found = four_bits.quantized(torch.linspace(-1, 1, 64)[None])
    assert torch.allclose((found / found.abs().max()).unique(), torch.tensor(LEVELS), atol=1e-3)


def test_linear_layers_are_quantized_but_not_the_output_projection_norms_or_embeddings():
    before, after = tiny.make_model(), four_bits.quantize(tiny.make_model())
    changed = {n for n, w in before.state_dict().items() if not torch.equal(w, after.state_dict()[n])}
    assert changed == {n for n in before.state_dict() if "_proj." in n}
