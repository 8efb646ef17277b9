"""Checkpoints: whole or not there, the newest found, the best kept, another model's refused."""

import errno
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import tiny
import torch
import torch.distributed.checkpoint as dcp
from accelerate import Accelerator

from nlpft.errors import ModelError, TrainingError
from nlpft.training import checkpoint
from nlpft.training.optim import OptimConfig, build_optimizer


@pytest.fixture
def parts():
    model = tiny.make_model()
    return Accelerator(cpu=True), model, build_optimizer(model, OptimConfig())


def save(parts, folder, step, keep=9, best=None):
    return checkpoint.save(parts[0], folder, *parts[1:], {"step": step, "best": {"step": best}}, keep)


def killed(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (dcp.FileSystemWriter, "write_data"),
        (dcp.FileSystemWriter, "finish"),
        (Path, "write_text"),
        (Path, "rename"),
    ],
)
def test_a_kill_while_saving_leaves_the_last_good_one(parts, tmp_path, monkeypatch, where, name):
    first = save(parts, tmp_path, 1)
    with monkeypatch.context() as patch:
        patch.setattr(where, name, killed)
        child = multiprocessing.get_context("fork").Process(target=save, args=(parts, tmp_path, 2))
        child.start()
        child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert list(tmp_path.glob(".step-*")), "the kill came before anything was written"
    assert checkpoint.latest(tmp_path) == first
    assert checkpoint.load(parts[0], first, *parts[1:])["step"] == 1
    third = save(parts, tmp_path, 3)
    assert sorted(tmp_path.iterdir()) == [first, third]


def test_a_full_disk_is_said_and_leaves_the_last_good_one(parts, tmp_path, monkeypatch):
    first = save(parts, tmp_path, 1)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(dcp.FileSystemWriter, "finish", full)
    with pytest.raises(TrainingError, match=r"step-00000002: cannot be saved \(No space left on device\)"):
        save(parts, tmp_path, 2)
    assert list(tmp_path.iterdir()) == [first]
    assert checkpoint.latest(tmp_path) == first
    assert checkpoint.latest(tmp_path / "nowhere") is None


def test_the_newest_and_the_best_stay(parts, tmp_path):
    for step in (1, 2, 3, 4, 5):
        save(parts, tmp_path, step, keep=2, best=2 if step > 1 else None)
    assert [p.name[-1] for p in sorted(tmp_path.iterdir())] == ["2", "4", "5"]


def test_what_an_older_one_calls_its_best_stays_with_it(parts, tmp_path):
    for step, best in ((1, 1), (2, 1), (3, 3)):  # without the newest, the run goes on from 2 and may end with 1
        save(parts, tmp_path, step, keep=2, best=best)
    assert [p.name[-1] for p in sorted(tmp_path.iterdir())] == ["1", "2", "3"]


def test_rolling_back_restores_weights_and_optimiser(parts, tmp_path):
    _, model, optimizer = parts
    model.lm_head.weight.grad = torch.ones_like(model.lm_head.weight)
    optimizer.step()
    before = model.lm_head.weight.detach().clone()
    with pytest.raises(TrainingError, match=r"checkpoint\.every"):
        checkpoint.roll_back(parts[0], tmp_path, *parts[1:])
    save(parts, tmp_path, 1)
    optimizer.step()
    assert not torch.equal(model.lm_head.weight, before)
    assert checkpoint.roll_back(parts[0], tmp_path, *parts[1:]) == "step-00000001"
    assert torch.equal(model.lm_head.weight, before)
    assert optimizer.state[model.lm_head.weight]["step"] == 1


def test_a_damaged_checkpoint_is_named(parts, tmp_path):
    saved = save(parts, tmp_path, 1)
    (file,) = saved.glob("*.distcp")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"step-00000001: damaged .*remove it, and --resume"):
        checkpoint.load(parts[0], saved, *parts[1:])
    (saved / ".metadata").write_bytes(b"")
    with pytest.raises(ModelError, match=r"step-00000001: damaged"):
        checkpoint.load(parts[0], saved, *parts[1:])


def test_every_optimisers_state_comes_back(tmp_path):
    kinds = {"AdamW": {"fused": True}, "SGD": {"momentum": 0.9}, "RMSprop": {}, "Adagrad": {}}
    for name, options in kinds.items():
        model = tiny.make_model()
        optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.1, **options)

        def step(model, optimizer):
            for p in model.parameters():
                p.grad = torch.full_like(p, 0.5)
            optimizer.step()

        step(model, optimizer)
        saved = save((Accelerator(cpu=True), model, optimizer), tmp_path / name, 1)
        other = tiny.make_model(seed=1)
        again = getattr(torch.optim, name)(other.parameters(), lr=0.1, **options)
        checkpoint.load(Accelerator(cpu=True), saved, other, again)
        step(model, optimizer)
        step(other, again)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)), name


def test_another_methods_checkpoint_is_refused(parts, tmp_path):
    saved = save(parts, tmp_path, 1)
    parts[1].lm_head.weight.requires_grad_(False)
    with pytest.raises(ModelError, match="another model or tuning method"):
        checkpoint.load(parts[0], saved, *parts[1:])
