"""A step's arithmetic does not depend on how it is cut into processes and micro-batches, dropout included."""

import numpy as np
import processes
import pyarrow as pa
import pytest
import tiny
import torch
from accelerate import Accelerator

from nlpft import plugins
from nlpft.data.columns import lists
from nlpft.data.loader import DataConfig, PackedData, Share
from nlpft.training.loop import StepSettings, train_steps

OBJECTIVE = plugins.load("objectives", "causal_lm")
LENGTHS = [
    120,
    3,
    2,
    97,
    64,
    5,
    11,
    127,
    30,
    2,
    88,
    4,
    15,
    101,
    7,
    50,
    9,
    66,
    2,
    33,
    125,
]  # packs of 128: eight, and unlike


def data():
    draw, offsets = np.random.default_rng(0), np.cumsum([0, *LENGTHS])
    ids = draw.integers(0, 400, offsets[-1])
    labels = np.where(draw.random(len(ids)) < draw.choice([0.02, 0.9], len(ids)), ids, -100)
    return PackedData(None, 128, table=pa.table({"input_ids": lists(ids, offsets), "labels": lists(labels, offsets)}))


def gradient(packs_per_step, packs_per_micro_batch, dropout, steps=1):
    """Change of all weights by SGD steps of rate 1 = the gradient; and the losses."""
    accelerator = Accelerator(cpu=True)
    share = Share(accelerator.process_index, accelerator.num_processes)
    model = tiny.make_model(dropout=dropout)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=1.0))
    config = DataConfig(packs_per_step=packs_per_step, packs_per_micro_batch=packs_per_micro_batch)
    batches = data().steps(config, 0, share)
    score = OBJECTIVE.build(OBJECTIVE.Config(), model), OBJECTIVE.num_targets
    reports = train_steps(accelerator, model, optimizer, batches, *score, StepSettings(lambda step: 1.0, 0))
    losses = [next(reports).loss for _ in range(steps)]
    after = accelerator.unwrap_model(model)
    return losses, {name: (before[name] - p.detach()).numpy() for name, p in after.named_parameters()}


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_1x8_2x4_4x2_and_8x1_give_the_same_gradient(dropout):
    assert len(data().packs(0, 0)) == 8
    (losses, expected), *_ = processes.run(gradient, 1, 8, 1, dropout)
    assert max(abs(g).max() for g in expected.values()) > 1e-3
    for count in (2, 4, 8):
        for got_losses, got in processes.run(gradient, count, 8, 1, dropout):
            assert got_losses == pytest.approx(losses, rel=1e-5)
            for name in expected:
                np.testing.assert_allclose(got[name], expected[name], rtol=1e-3, atol=1e-6)


def test_an_uneven_last_step_counts_no_row_twice():
    # packs of 5 a step: the second step of the epoch has 3, which two and four processes share unevenly
    (losses, expected), *_ = processes.run(gradient, 1, 5, 1, 0.0, 2)
    for count, size in ((2, 1), (4, 1), (2, 2)):
        for got_losses, got in processes.run(gradient, count, 5, size, 0.0, 2):
            assert got_losses == pytest.approx(losses, rel=1e-5)
            for name in expected:
                np.testing.assert_allclose(got[name], expected[name], rtol=1e-3, atol=1e-6)
