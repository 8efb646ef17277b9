"""A method's part in a run: what is held back counts for nothing in a step, and what is optional may be missing."""

from types import SimpleNamespace

import pytest
import steps
import tiny
import torch
from accelerate import Accelerator

from nlpft import plugins
from nlpft.models.sizes import by_block
from nlpft.training import method
from nlpft.training.loop import train_steps
from nlpft.training.optim import OptimConfig
from nlpft.training.regularize import RegularizeConfig

OBJECTIVE = plugins.settings("objectives", "causal_lm")


def run(tuning, count, **optim):
    """Model before and after `count` steps of the loop, and their reports."""
    cfg = SimpleNamespace(tuning=tuning, optim=OptimConfig(lr=0.01, warmup=0, **optim), seed=0)
    accelerator = Accelerator(cpu=True)
    model = plugins.load("tuning", tuning.name).apply(tiny.make_model(), tuning)
    before = steps.copied(model)
    model, optimizer = method.prepare(accelerator, model, cfg.optim, tuning, RegularizeConfig())
    score = method.score(OBJECTIVE, model)
    settings = method.step_settings(model, cfg, 8)
    batches = [[steps.packed()] for _ in range(count)]
    reports = list(train_steps(accelerator, model, optimizer, batches, *score, settings))
    return model, before, reports


def test_what_is_held_back_neither_moves_nor_counts_in_the_norm_that_clips():
    gradual = plugins.load("tuning", "gradual")
    model, before, (report,) = run(gradual.Config(every=2), 1)
    held = {name for name in before if "layers.2." not in name and name != "model.norm.weight"}
    assert steps.moved(model, before) == before.keys() - held
    whole = tiny.make_model()
    batch = steps.packed()
    (method.score(OBJECTIVE, whole)[0](whole, batch) / len(batch["targets"])).backward()
    norms = [p.grad.norm() for name, p in whole.named_parameters() if name not in held]
    assert report.grad_norm == pytest.approx(torch.stack(norms).norm().item(), rel=1e-4)


def test_blocks_that_are_reached_later_move_then():
    gradual = plugins.load("tuning", "gradual")
    for count, blocks in ((2, {"2"}), (3, {"1", "2"}), (5, {"0", "1", "2"})):
        model, before, _ = run(gradual.Config(every=2), count)
        moved = steps.moved(model, before)
        assert {name.split(".")[2] for name in moved if ".layers." in name} == blocks
        assert "model.embed_tokens.weight" not in moved


def test_the_rates_that_a_method_asks_for_reach_the_step():
    lora = plugins.load("tuning", "lora")

    def distance(ratio):
        model, before, _ = run(lora.Config(rank=4, lr_ratio=ratio), 1, name="sgd")
        (name,) = (name for name in before if "layers.0.mlp.up_proj.lora_B" in name)
        return (model.get_parameter(name) - before[name]).norm().item()

    assert distance(8.0) == pytest.approx(8 * distance(1.0), rel=1e-3)


def test_a_method_without_more_than_apply_asks_for_nothing():
    full = plugins.settings("tuning", "full")
    model = tiny.make_model()
    assert method.rate_factors(model, full) == {}
    weight = model.model.norm.weight
    weight.grad = torch.ones_like(weight)
    method.hold(model, full, 10)(1)
    assert weight.grad is not None


def test_a_count_of_what_trains_is_of_numbers():
    model = tiny.make_model()
    lora = plugins.load("tuning", "lora")
    whole = sum(p.numel() for p in model.parameters())
    blocks = by_block(lora.apply(model, lora.Config(rank=2, targets=("q_proj",)))).values()
    trains, there = (sum(block[key] for block in blocks) for key in ("trains", "all"))
    assert trains == 3 * 2 * (32 + 32)
    assert there == whole + trains
