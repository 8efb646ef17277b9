"""Spaces of layer masks and their like: named dimensions, and what a candidate does to a model."""

import pytest
import tiny
import tiny_heads
import torch
from optuna.distributions import CategoricalDistribution, IntDistribution

from nlpft.errors import ConfigError, ModelError
from nlpft.models.blocks import blocks
from nlpft.search import candidate
from nlpft.search.space import SpaceConfig, canonical, mask, space_of


def trained(model, point: dict) -> set[str]:
    candidate.train(model, point)
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


def test_a_bit_for_each_block_and_the_embeddings():
    assert list(space_of(SpaceConfig(), 3)) == ["keep.00", "keep.01", "keep.02", "keep.embeddings"]
    assert list(space_of(SpaceConfig(embeddings=False), 2)) == ["keep.00", "keep.01"]


def test_finer_bits_and_other_dimensions_have_names_of_their_own():
    finer = space_of(SpaceConfig(keep="parts", embeddings=False), 1)
    assert list(finer) == ["keep.00.attention", "keep.00.mlp", "keep.00.norms"]
    more = space_of(SpaceConfig(keep="none", ranks=(0, 4), rates=4.0, least_blocks=1, transplant=True), 2)
    assert list(more) == ["rank.00", "rank.01", "rate.00", "rate.01", "blocks", "transplant.00", "transplant.01"]
    assert more["rank.00"] == CategoricalDistribution((0, 4))
    assert more["blocks"] == IntDistribution(1, 2)
    assert (more["rate.01"].low, more["rate.01"].high) == (0.25, 4.0)


def test_a_mask_reads_from_below():
    assert mask({"keep.01": 0, "keep.00": 1, "keep.embeddings": 1, "rate.00": 2.0}) == "101"


@pytest.mark.parametrize("make", [tiny.make_model, tiny_heads.make_bert])
def test_what_a_mask_keeps_stays_and_the_rest_trains(make):
    model = make()
    count = len(blocks(model))
    point = {f"keep.{n:02}": int(n != 1) for n in range(count)}
    names = trained(model, {**point, "keep.embeddings": 1})
    middle = {name for name in names if ".1." in name}
    assert middle == {name for name, _ in model.named_parameters() if ".1." in name}
    assert not any("embed" in name or ".0." in name for name in names)
    assert names - middle, "what lies behind the blocks trains"
    assert any("embed" in name for name in trained(model, {**point, "keep.embeddings": 0}))


def test_parts_of_a_block_are_told_by_what_they_do():
    of = candidate.parts(tiny_heads.make_bert())
    layer = "bert.encoder.layer.0."
    assert of[layer + "attention.output.dense.weight"] == "00.attention"
    assert of[layer + "attention.output.LayerNorm.weight"] == "00.norms"
    assert of[layer + "intermediate.dense.bias"] == of[layer + "output.dense.weight"] == "00.mlp"
    assert of["bert.embeddings.LayerNorm.weight"] == "embeddings"
    llama = candidate.parts(tiny.make_model())
    assert llama["model.layers.2.self_attn.q_proj.weight"] == "02.attention"
    assert llama["model.layers.2.input_layernorm.weight"] == "02.norms"
    assert llama["model.norm.weight"] == ""


def test_finer_bits_train_one_part():
    bits = {f"keep.{n:02}.{part}": 1 for n in range(3) for part in ("attention", "mlp", "norms")}
    names = trained(tiny.make_model(), {**bits, "keep.01.mlp": 0})
    assert {name for name in names if "layers" in name} == {
        f"model.layers.1.mlp.{kind}_proj.weight" for kind in ("gate", "up", "down")
    }


def test_each_block_has_its_rate():
    found = candidate.rate_factors(tiny.make_model(), {"rate.00": 0.5, "rate.02": 2.0})
    assert {name.split(".")[2]: value for name, value in found.items()} == {"0": 0.5, "2": 2.0}


def test_each_block_has_its_rank():
    targets, ranks = candidate.rank_pattern(tiny.make_model(), {"rank.00": 0, "rank.01": 4, "rank.02": 8})
    assert {name.split(".")[2] for name in targets} == {"1", "2"}
    assert ranks["model.layers.1.mlp.up_proj"] == 4
    assert ranks["model.layers.2.self_attn.q_proj"] == 8


def test_a_shortened_model_computes_its_first_blocks_and_comes_back_whole():
    model, ids = tiny.make_model().eval(), torch.arange(5)[None]
    whole = model(ids).logits
    with candidate.shortened(model, {"blocks": 2}):
        assert len(blocks(model)) == model.config.num_hidden_layers == 2
        hidden = model(ids, output_hidden_states=True).hidden_states
    assert len(hidden) == 3
    assert torch.equal(model(ids).logits, whole)
    assert model.config.num_hidden_layers == 3


def test_chosen_blocks_are_taken_from_the_source():
    model, source, before = tiny.make_model(0), tiny.make_model(1), tiny.make_model(0)
    candidate.transplant(model, source, {"transplant.00": 0, "transplant.01": 1})
    for number, giver in enumerate((before, source, before)):
        one, other = (blocks(m)[number].state_dict() for m in (model, giver))
        assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(ModelError, match="block 1 of the source"):
        candidate.transplant(model, tiny_heads.make_bert(), {"transplant.01": 1})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (SpaceConfig(ranks=(0, 4)), "space.keep none"),
        (SpaceConfig(keep="none", ranks=(4, 4)), "each once"),
        (SpaceConfig(rates=0.5), "space.rates"),
        (SpaceConfig(least_blocks=4), "the model has 3 blocks"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(config, message):
    with pytest.raises(ConfigError, match=message):
        space_of(config, 3)


def test_candidates_that_are_one_network_have_one_form():
    short = {"blocks": 1, "keep.00": 0, "keep.embeddings": 1, "rate.00": 2.0}
    assert canonical({**short, "keep.01": 0, "rate.01": 0.5, "transplant.01": 1}) == short
    assert canonical({**short, "keep.01.mlp": 1, "rank.01": 4, "rank.01.mlp": 8}) == short
    assert canonical({**short, "blocks": 2, "keep.01": 1, "rate.01": 0.5}) == {**short, "blocks": 2, "keep.01": 1}


@pytest.mark.parametrize(
    "point",
    [
        {"blocks": 2, "keep.00": 1, "keep.01": 0, "rate.01": 0.5, "transplant.00": 1},
        {"keep.00.attention": 1, "keep.00.mlp": 0, "rate.00": 2.0},
        {"rank.00": 4, "rate.00": 2.0, "rank.01": 0},
        {"keep.embeddings": 0, "lr": 0.1},
    ],
)
def test_what_decides_a_network_stays_in_its_form(point):
    assert canonical(point) == point
    assert canonical({**point, "rate.05": 1.0}) == point
