"""Freezing, biases and the head: what trains is what the settings name, and what names nothing is an error."""

import pytest
import tiny

from nlpft.errors import ConfigError
from nlpft.plugins import load

FREEZE, BITFIT, HEAD, GRADUAL = (load("tuning", name) for name in ("freeze", "bitfit", "head_only", "gradual"))


def trained(**settings):
    model = FREEZE.apply(tiny.make_model(), FREEZE.Config(**settings))
    return {name for name, p in model.named_parameters() if p.requires_grad}


def blocks_of(names):
    return {name.split(".")[2] for name in names if ".layers." in name}


@pytest.mark.parametrize(
    ("settings", "blocks"),
    [({}, {"1", "2"}), ({"train_last": 0, "train_first": 1}, {"0"}), ({"train_last": 1, "train_first": 1}, {"0", "2"})],
)
def test_whole_blocks_train_and_nothing_else(settings, blocks):
    names = trained(**settings)
    assert blocks_of(names) == blocks
    assert len(names) == 9 * len(blocks)


def test_patterns_come_on_top_of_blocks():
    assert trained(train_last=0, patterns=("model.norm.*", "*layers.1.mlp.*")) == {
        "model.norm.weight",
        *(f"model.layers.1.mlp.{part}_proj.weight" for part in ("gate", "up", "down")),
    }
    assert trained(train_last=1) | {"model.norm.weight"} == trained(train_last=1, patterns=("model.norm.*",))


def test_a_tied_head_trains_with_the_embeddings():
    assert trained(train_last=0, train_head=True) == {"model.embed_tokens.weight"}
    model = HEAD.apply(tiny.make_model(), HEAD.Config())
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {"model.embed_tokens.weight"}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"train_last": 4}, "tuning.train_last 4: the model has 3 blocks"),
        ({"train_first": -1}, "tuning.train_first -1"),
        ({"train_last": 0}, "nothing would be trained"),
        ({"patterns": ("*norm*", "*nrom*")}, r"'\*nrom\*'.*model\.embed_tokens\.weight.* more"),
    ],
)
def test_what_names_nothing_is_refused(settings, named):
    with pytest.raises(ConfigError, match=named):
        trained(**settings)


def test_a_model_without_biases_is_told_what_to_take():
    with pytest.raises(ConfigError, match=r"LlamaForCausalLM has no biases.*norm"):
        BITFIT.apply(tiny.make_model(), BITFIT.Config())


def reached(step, every, max_steps):
    """Names of the weights that keep their gradients in a step."""
    model = GRADUAL.apply(tiny.make_model(), GRADUAL.Config(every=every))
    for p in model.parameters():
        p.grad = p.detach().clone()
    GRADUAL.hold(model, GRADUAL.Config(every=every), max_steps)(step)
    return {name for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("every", "max_steps"), [(10, 40), (0.25, 40)])
def test_one_more_block_is_reached_every_so_many_steps_and_the_embeddings_last(every, max_steps):
    if every == 0.25:
        max_steps = 41  # 11 steps a block would not leave one for the embeddings
        every = 10 / 41
    for step, blocks in ((1, {"2"}), (10, {"2"}), (11, {"1", "2"}), (21, {"0", "1", "2"}), (31, {"0", "1", "2"})):
        names = reached(step, every, max_steps)
        assert blocks_of(names) == blocks
        assert "model.norm.weight" in names
        assert ("model.embed_tokens.weight" in names) == (step > 30)


@pytest.mark.parametrize(("every", "named"), [(10, "31 steps, the run has 30"), (0.5, r"a share below 0\.25")])
def test_a_run_too_short_to_reach_all_blocks_is_refused(every, named):
    with pytest.raises(ConfigError, match=named):
        GRADUAL.hold(tiny.make_model(), GRADUAL.Config(every=every), 30)


@pytest.mark.parametrize("every", [0, -1, float("nan")])
def test_a_pace_that_reaches_nothing_is_refused(every):
    with pytest.raises(ConfigError, match=r"tuning\.every"):
        GRADUAL.apply(tiny.make_model(), GRADUAL.Config(every=every))
