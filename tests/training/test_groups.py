"""Every weight that trains is in one group, with the rate and the decay that the settings say."""

import pytest
import steps
import tiny

from nlpft.errors import ConfigError
from nlpft.plugins import load
from nlpft.training.groups import describe, parameter_groups
from nlpft.training.optim import OptimConfig, build_optimizer


def scales(model, *args, **settings):
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: g["scale"] for g in parameter_groups(model, *args, **settings) for p in g["params"]}


def test_every_weight_that_trains_is_in_exactly_one_group():
    model = tiny.make_model()
    model.model.layers[0].requires_grad_(False)
    groups = parameter_groups(model, layer_decay=0.5, lr_of=["*norm*=3"])
    listed = sorted(id(p) for g in groups for p in g["params"])
    assert listed == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_layer_decay_is_geometric_from_the_head_down_to_the_embeddings():
    got = scales(tiny.make_model(), layer_decay=0.5)
    assert got["model.norm.weight"] == 1.0
    assert [got[f"model.layers.{n}.mlp.up_proj.weight"] for n in (2, 1, 0)] == [0.5, 0.25, 0.125]
    assert got["model.embed_tokens.weight"] == 0.0625


def test_the_first_pattern_counts_and_factors_multiply():
    got = scales(
        tiny.make_model(),
        layer_decay=0.5,
        lr_of=["*layers.2*norm*=10", "*norm*=3"],
        factors={"model.norm.weight": 7.0},
    )
    assert got["model.layers.2.input_layernorm.weight"] == 5.0
    assert got["model.layers.1.input_layernorm.weight"] == 0.75
    assert got["model.norm.weight"] == 21.0
    assert got["model.layers.2.mlp.up_proj.weight"] == 0.5


def test_a_pattern_that_matches_nothing_lists_names():
    with pytest.raises(ConfigError, match=r"'\*lm_haed\*'.*model\.embed_tokens\.weight"):
        parameter_groups(tiny.make_model(), lr_of=["*lm_haed*=10"])


def test_a_frozen_model_is_refused():
    with pytest.raises(ConfigError, match="nothing trains"):
        parameter_groups(tiny.make_model().requires_grad_(False))


def test_the_description_counts_every_number_that_trains_and_gives_rate_and_decay():
    model = tiny.make_model()
    lines = describe(parameter_groups(model, weight_decay=0.1, lr_of=["*norm*=3"]), 0.01)
    assert sum(line.parameters for line in lines) == sum(p.numel() for p in model.parameters())
    (vectors,) = (line for line in lines if line.name.startswith("vectors"))
    assert (vectors.name, vectors.parameters, vectors.weight_decay) == ("vectors x 3", 7 * 32, 0.0)
    assert vectors.lr == pytest.approx(0.03)
    assert {line.weight_decay for line in lines if line is not vectors} == {0.1}
    assert str(vectors) == "vectors x 3: 224 parameters, rate 0.03, decay 0"


def test_lora_plus_gives_each_b_its_factor_and_no_a():
    lora = load("tuning", "lora")
    config = lora.Config(rank=4, lr_ratio=16.0)
    model = lora.apply(tiny.make_model(), config)
    got = scales(model, factors=lora.rate_factors(model, config))
    assert {".lora_B." in name: scale for name, scale in got.items()} == {True: 16.0, False: 1.0}


def test_a_weight_with_half_the_rate_moves_half_as_far():
    def distance(pattern):
        model = tiny.make_model()
        before = steps.copied(model)
        optimizer = build_optimizer(model, OptimConfig(name="sgd", lr_of=(pattern,)))
        steps.train(model, optimizer, 1)
        return (model.model.norm.weight - before["model.norm.weight"]).norm().item()

    assert distance("*norm*=0.5") == pytest.approx(distance("*norm*=1") / 2, rel=1e-3)
