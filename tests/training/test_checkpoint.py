"""Checkpoints: whole or not there, the newest found, the best kept, another model's refused."""

import random

import numpy as np
import pytest
import tiny
import torch
from accelerate import Accelerator

from nlpft.errors import ModelError
from nlpft.training import checkpoint
from nlpft.training.optim import OptimConfig, build_optimizer


@pytest.fixture
def parts():
    model = tiny.make_model()
    return Accelerator(cpu=True), model, build_optimizer(model, OptimConfig())


def save(parts, folder, step):
    return checkpoint.save(parts[0], folder, *parts[1:], {"step": step, "best": {}})


def test_what_a_kill_leaves_is_not_found(parts, tmp_path):
    first = save(parts, tmp_path, 9)
    (tmp_path / "step-00000010.partial").mkdir()
    assert checkpoint.latest(tmp_path) == first
    assert checkpoint.latest(tmp_path / "nowhere") is None


def test_a_failure_while_saving_leaves_the_last_good_one(parts, tmp_path, monkeypatch):
    first = save(parts, tmp_path, 1)
    monkeypatch.setattr(torch, "save", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save(parts, tmp_path, 2)
    assert checkpoint.latest(tmp_path) == first


def test_the_newest_and_the_best_stay(parts, tmp_path):
    for step in (1, 2, 3, 4, 5):
        save(parts, tmp_path, step)
    checkpoint.prune(tmp_path, keep=2, best=2)
    assert [p.name[-1] for p in sorted(tmp_path.iterdir())] == ["2", "4", "5"]


def test_random_state_is_restored(parts, tmp_path):
    saved = save(parts, tmp_path, 1)

    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    expected = draw()
    checkpoint.load(parts[0], saved, *parts[1:])
    assert draw() == expected


def test_another_methods_checkpoint_is_refused(parts, tmp_path):
    saved = save(parts, tmp_path, 1)
    parts[1].lm_head.weight.requires_grad_(False)
    with pytest.raises(ModelError, match="another model or tuning method"):
        checkpoint.load(parts[0], saved, *parts[1:])


def test_another_number_of_processes_is_refused(parts, tmp_path):
    saved = save(parts, tmp_path, 1)
    (saved / "random-1.pt").write_bytes((saved / "random-0.pt").read_bytes())
    with pytest.raises(ModelError, match="2 processes, resumed by 1"):
        checkpoint.load(parts[0], saved, *parts[1:])
