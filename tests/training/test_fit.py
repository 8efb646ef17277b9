"""Whether a run fits: what is measured changes nothing, the largest batch is the one, and what would fit is said."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import tiny
import torch
from accelerate import Accelerator

from nlpft import plugins
from nlpft.data.columns import lists
from nlpft.data.loader import DataConfig, PackedData
from nlpft.errors import ConfigError
from nlpft.models.compute import ComputeConfig
from nlpft.training import fit
from nlpft.training.checkpoint import CheckpointConfig
from nlpft.training.fit import Trial, settled

OBJECTIVE = plugins.load("objectives", "causal_lm")
LENGTHS = (30, 120, 100, 90, 110, 128)


def data(**options):
    offsets = np.cumsum([0, *LENGTHS])
    ids = np.random.default_rng(0).integers(0, 400, offsets[-1])
    labels = np.where(np.arange(len(ids)) % 3 == 0, ids, -100)
    labels[offsets[2] : offsets[3]] = ids[offsets[2] : offsets[3]]  # the row of 100 tokens is learnt whole
    return PackedData(
        None, 128, table=pa.table({"input_ids": lists(ids, offsets), "labels": lists(labels, offsets)}), **options
    )


def settings(packs, **more):
    config = {"data": DataConfig(packs_per_step=4, packs_per_micro_batch=packs), "preflight": True, "compute": ComputeConfig(),
              "checkpoint": CheckpointConfig(), "output_dir": Path("/tmp/nowhere/run"), **more}  # fmt: skip
    return dataclasses.make_dataclass("Settings", list(config), frozen=True)(**config)


@pytest.fixture
def trial():
    model = tiny.make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.1, fused=True)
    return Trial(Accelerator(cpu=True), model, optimizer, data(), OBJECTIVE.build(OBJECTIVE.Config(), model))


OPTIMISERS = {
    "fused": lambda p: torch.optim.AdamW(p, lr=1.0, weight_decay=0.1, fused=True),
    "not fused": lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.9),
}


@pytest.mark.parametrize("make", OPTIMISERS.values(), ids=OPTIMISERS)
def test_measuring_takes_a_real_step_and_changes_nothing(trial, make, monkeypatch):
    trial = dataclasses.replace(trial, optimizer=make(trial.model.parameters()))
    before, taken = [p.detach().clone() for p in trial.model.parameters()], []
    trial.optimizer.register_step_post_hook(lambda optimizer, *_: taken.append(len(optimizer.state)))
    measured = trial.measure(2)
    assert taken == [len(before), len(before)]
    assert measured.packs == 2
    assert measured.seconds > 0
    assert all(torch.equal(a, b) for a, b in zip(before, trial.model.parameters(), strict=True))
    assert not trial.optimizer.state
    assert all(p.grad is None for p in trial.model.parameters())


def test_the_largest_batch_is_the_longest_or_with_static_shapes_the_most_learnt():
    assert data().largest(1)["input_ids"].shape[1] == 128
    static = data(static_shapes=True).largest(1)
    assert static["input_ids"].shape[1] == 128
    assert int((static["labels"] != -100).sum()) >= 99


def out_of_memory_above(trial, packs):
    """The loss, but no memory for batches of more than so many packs."""
    inner = trial.step_loss

    def step_loss(model, batch):
        if batch["input_ids"].shape[1] > packs * 128:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        return inner(model, batch)

    return dataclasses.replace(trial, step_loss=step_loss)


def test_what_does_not_fit_is_refused_with_what_would(trial):
    with pytest.raises(ConfigError, match=r"data\.packs_per_micro_batch 4 does not fit .*; 2 does, with .* GiB"):
        settled(out_of_memory_above(trial, 2), settings(4), 10)
    with pytest.raises(ConfigError, match=r"not even one pack of 128 tokens fits"):
        settled(out_of_memory_above(trial, 0), settings(1), 10)


def test_fewer_activations_are_tried_where_one_pack_does_not_fit(trial, monkeypatch):
    tight = out_of_memory_above(trial, 0)
    monkeypatch.setattr(
        fit, "keep_activations", lambda model, share: share < 0.2 and vars(tight).update(step_loss=trial.step_loss)
    )
    with pytest.raises(ConfigError, match=r"with compute\.keep_activations 0\.1 .* it does"):
        settled(tight, settings(1), 10)


def test_other_errors_are_not_taken_for_a_lack_of_memory(trial):
    def broken(model, batch):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        settled(dataclasses.replace(trial, step_loss=broken), settings(1), 10)


def test_auto_takes_the_fastest_that_fits(trial, monkeypatch):
    seconds = {1: 1.0, 2: 1.5, 4: 2.9}  # a pack: 1.0, 0.75, 0.725
    monkeypatch.setattr(Trial, "measure", lambda self, packs: fit.Fit(packs, seconds[packs], 0.1, 1.0))
    assert settled(trial, settings("auto"), 10).data.packs_per_micro_batch == 4
    seconds[4] = 3.0
    assert settled(trial, settings("auto"), 10).data.packs_per_micro_batch == 2
    monkeypatch.setattr(Trial, "measure", lambda self, packs: None)
    with pytest.raises(ConfigError, match="not even one pack"):
        settled(trial, settings("auto"), 10)


def test_time_and_disk_are_forecast(trial, monkeypatch, capsys):
    monkeypatch.setattr(Trial, "measure", lambda self, packs: fit.Fit(packs, 2.0, 0.5, 1.5))
    settled(trial, settings(2), 100)
    assert "2 x 128 tokens at once take 1.5 of" in (said := capsys.readouterr().err)
    assert "4.50 s a step, 100 steps: 0:07:30" in said  # two rounds and the optimiser
    monkeypatch.setattr(fit.shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(ConfigError, match="not enough; lower checkpoint"):
        settled(trial, settings(2), 100)


def test_nothing_is_measured_where_nobody_asks(trial, monkeypatch):
    monkeypatch.setattr(Trial, "measure", lambda self, packs: pytest.fail("measured"))
    cfg = settings(2, preflight=None)
    assert settled(trial, cfg, 10) is cfg  # on a CPU
