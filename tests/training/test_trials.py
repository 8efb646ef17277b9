"""Every dimension of a space reaches the trial: what trains, its rate and rank, how many blocks there are, and whose."""

import itertools
from dataclasses import dataclass, replace
from typing import Any

import pytest
import tiny_heads
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed

from nlpft.config import plugin
from nlpft.data.examples import ExamplesConfig
from nlpft.errors import ConfigError
from nlpft.models.blocks import blocks
from nlpft.models.heads import HeadConfig, new_head
from nlpft.training.optim import OptimConfig
from nlpft.training.trials import Shared, fitting, fresh, shared

MATRICES = ("classifier.weight", "bert.pooler.dense.weight")  # what a new head draws
KEPT = {"keep.00": 1, "keep.01": 1, "keep.embeddings": 1}


@dataclass(frozen=True)
class Config:
    model: str
    data: ExamplesConfig
    epochs: float = 1.0
    seed: int = 0
    head: HeadConfig = HeadConfig()
    optim: OptimConfig = OptimConfig(lr=0.01, warmup=0)
    objective: Any = plugin("objectives", "classification")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Settings, what trials share, and a source model's folder."""
    place = tmp_path_factory.mktemp("trials")
    bert, source = tiny_heads.save_bert(place / "bert"), place / "source"
    tiny_heads.make_bert(seed=1).save_pretrained(source)
    data = tiny_heads.classified(place, bert)
    cfg = Config(str(bert), ExamplesConfig(train=data / "train", eval=data / "eval", rows_per_step=8))
    return cfg, shared(cfg, source=str(source)), source


def loss_of(cfg: Config, common: Shared, point: dict, seed: int = 0) -> float:
    with fitting(cfg, common, point, seed) as (steps, evaluate):
        for _ in steps:
            pass
        return evaluate()


def moved(cfg: Config, common: Shared, point: dict) -> set[str]:
    """Names of the weights that a trial changes."""
    with fitting(cfg, common, point, 0) as (steps, _):
        before = {name: weight.detach().clone() for name, weight in common.model.named_parameters()}
        for _ in steps:
            pass
        return {name for name, weight in common.model.named_parameters() if not torch.equal(weight, before[name])}


def in_blocks(names: set[str]) -> set[str]:
    return {name.removeprefix("bert.encoder.layer.") for name in names if ".layer." in name}


def test_only_what_the_candidate_does_not_keep_moves(made):
    cfg, common, _ = made
    assert in_blocks(moved(cfg, common, KEPT)) == set()
    assert {name[0] for name in in_blocks(moved(cfg, common, {**KEPT, "keep.01": 0}))} == {"1"}
    point = {f"keep.{n:02}.{part}": 1 for n in range(2) for part in ("attention", "mlp", "norms")}
    found = in_blocks(moved(cfg, common, {**point, "keep.01.norms": 0, "keep.embeddings": 1}))
    assert found == {
        f"1.{part}.LayerNorm.{kind}" for part in ("attention.output", "output") for kind in ("weight", "bias")
    }


def test_ranks_reach_the_blocks_and_parts_that_have_them_and_leave_nothing_behind(made):
    cfg, common, _ = made
    names = [name for name, _ in common.model.named_parameters()]
    found = in_blocks(moved(cfg, common, {"rank.00": 0, "rank.01": 4}))
    assert {name[0] for name in found} == {"1"}
    assert all("lora_" in name for name in found)
    with fitting(cfg, common, {"rank.01.mlp": 3, "rank.01.attention": 0}, 0):
        shapes = {name: tuple(weight.shape) for name, weight in common.model.named_parameters() if "lora_A" in name}
    assert sorted(shapes.values()) == [(3, 32), (3, 64)]
    assert all("attention" not in name for name in shapes)
    assert [name for name, _ in common.model.named_parameters()] == names
    assert not hasattr(common.model, "peft_config")


def test_an_adapted_block_begins_as_it_was(made):
    cfg, common, _ = made
    with fitting(cfg, common, KEPT, 0) as (_, evaluate):
        before = evaluate()
    with fitting(cfg, common, {"rank.00": 4, "rank.01": 4}, 0) as (_, evaluate):
        assert evaluate() == pytest.approx(before, rel=1e-6)


def test_a_rate_of_its_own_moves_a_block_further(made):
    cfg, common, _ = made
    trained = {**KEPT, "keep.01": 0}

    def way(factor: float) -> float:
        with fitting(cfg, common, {**trained, "rate.01": factor}, 0) as (steps, _):
            weight = blocks(common.model)[1].output.dense.weight
            before = weight.detach().clone()
            next(steps)
            return float((weight.detach() - before).abs().max())

    assert way(4.0) == pytest.approx(4 * way(1.0), rel=0.05)


def test_left_out_blocks_are_not_computed_and_come_back(made):
    cfg, common, _ = made
    calls = []
    hook = blocks(common.model)[1].attention.register_forward_hook(lambda *inputs: calls.append(1))
    short = loss_of(cfg, common, {**KEPT, "keep.00": 0, "blocks": 1})
    assert not calls
    assert loss_of(cfg, common, {**KEPT, "keep.00": 0, "blocks": 2}) != pytest.approx(short, rel=1e-4)
    assert calls
    hook.remove()
    assert len(blocks(common.model)) == 2


def test_transplanted_blocks_compute_as_the_source_does_also_where_their_features_are_remembered(made):
    cfg, common, source = made
    fresh = shared(cfg, source=str(source))
    points = [{**KEPT, "transplant.00": a, "transplant.01": b} for a in (0, 1) for b in (0, 1)]
    after_others = [loss_of(cfg, common, point) for point in points]
    assert len({round(loss, 5) for loss in after_others}) == 4
    assert after_others == pytest.approx([loss_of(cfg, fresh, point) for point in points[::-1]][::-1], rel=1e-5)
    whole = shared(Config(str(source), cfg.data))
    with fitting(cfg, common, points[3], 0), torch.no_grad():
        own, theirs = blocks(common.model)[1].state_dict(), blocks(whole.model)[1].state_dict()
    assert all(torch.equal(own[name], theirs[name]) for name in own)


def test_a_trial_follows_from_its_candidate_and_seed_alone(made):
    cfg, common, _ = made
    points = [{**KEPT, "keep.01": 0}, {"rank.00": 2, "rank.01": 4}, {**KEPT, "blocks": 1, "keep.00": 0}]
    first = [loss_of(cfg, common, point) for point in points]
    assert first == [loss_of(cfg, common, point) for point in points]
    assert loss_of(cfg, common, points[0], seed=1) != first[0]


def test_products_in_bfloat16_train_float32_weights(made):
    cfg, common, _ = made
    point = {**KEPT, "keep.01": 0}
    exact = loss_of(cfg, common, point)
    AcceleratorState._reset_state()  # a process has one kind of precision
    rough = shared(cfg, "bfloat16")
    assert {weight.dtype for weight in rough.model.parameters()} == {torch.float32}
    found = loss_of(cfg, rough, point)
    AcceleratorState._reset_state()
    assert found != exact
    assert found == pytest.approx(exact, rel=0.1)


def test_a_source_of_another_shape_is_refused(made, tmp_path):
    cfg, _, source = made
    from transformers import BertConfig, BertModel

    settings = BertConfig.from_pretrained(source)
    settings.intermediate_size = 48
    BertModel(settings).save_pretrained(tmp_path / "other")
    with pytest.raises(ConfigError, match="not of the shape"):
        shared(cfg, source=str(tmp_path / "other"))


def test_a_probed_head_has_learnt_and_nothing_else_has(made):
    cfg, common, source = made
    probed = shared(cfg, source=str(source), probe=3)
    head = {name for name, _ in common.model.named_parameters() if "classifier" in name or "pooler" in name}
    for name, weight in common.weights.values.items():
        assert torch.equal(weight, probed.weights.values[name]) == (name not in head), name
    with fitting(cfg, common, KEPT, 0) as (_, evaluate):
        before = evaluate()
    with fitting(cfg, probed, KEPT, 0) as (_, evaluate):
        assert evaluate() < before


def test_a_fresh_seed_has_the_head_of_a_run_with_that_seed_on_the_same_body(made):
    cfg, common, _ = made
    begun = {seed: fresh(cfg, common, seed).weights.values for seed in (0, 1, 2)}
    for name, weight in common.weights.values.items():
        own = [begun[seed][name] for seed in (0, 1, 2)]
        assert torch.equal(own[0], weight), name
        assert torch.equal(own[1], weight) == torch.equal(own[1], own[2]) == (name not in MATRICES), name
    set_seed(2)
    run = new_head(cfg.model, "float32", common.model.task, cfg.head)
    assert all(torch.equal(run.get_parameter(name), begun[2][name]) for name in run.head_parameters)


def test_the_heads_of_fresh_seeds_are_probed_each_anew(made):
    cfg = replace(made[0], optim=OptimConfig(lr=0.0005, warmup=0))
    probed = shared(cfg, probe=3)
    heads = {seed: fresh(cfg, probed, seed, probe=3) for seed in (1, 2)}
    for seed, one in heads.items():
        with fitting(cfg, fresh(cfg, probed, seed), KEPT, 0) as (_, evaluate):
            before = evaluate()
        with fitting(cfg, one, KEPT, 0) as (_, evaluate):
            assert evaluate() < before
    values = [one.weights.values["classifier.weight"] for one in (probed, *heads.values())]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(values, 2))
