"""Useful operations on a token: 6 for a weight that trains, 4 for one below which something trains, 2 for the others."""

import numpy as np
import pytest
import tiny

from nlpft.training import flops


def counted(model):
    """Numbers in the blocks' matrices, and in the head."""
    return sum(p.numel() for p in model.model.layers.parameters() if p.ndim > 1), model.lm_head.weight.numel()


def test_all_weights_take_six_each_and_attention_goes_by_the_mean_context():
    model = tiny.make_model()
    weights = 6 * sum(counted(model))
    assert flops.per_token(model, np.array([2, 6])) == pytest.approx(weights + 3 * 6 * 32 * (4 + 36) / 8)


def test_below_the_lowest_weight_that_trains_there_is_no_backward_pass():
    model = tiny.make_model().requires_grad_(False)
    frozen = flops.per_token(model, np.array([1]))
    assert frozen == 2 * sum(counted(model)) + 3 * 2 * 32
    assert flops.per_token(tiny.make_model(), np.array([1])) == 3 * frozen


@pytest.mark.parametrize(
    ("name", "tflops"),
    [("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA A100-SXM4-80GB", 312), ("NVIDIA L40S", 362)],
)
def test_peaks_go_by_the_devices_name(name, tflops):
    assert flops.peak_of(name) == tflops * 1e12


@pytest.mark.parametrize("name", ["NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA A10G", "some card"])
def test_a_part_of_a_device_and_an_unknown_one_have_no_peak(name):
    assert flops.peak_of(name) is None
