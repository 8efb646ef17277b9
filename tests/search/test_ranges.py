"""Ranges of settings: each form is the dimension that it says, and what could not be meant is refused with the nearest key."""

import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from nlpft.errors import ConfigError
from nlpft.search.ranges import document, ends, space_of

SETTINGS = {"optim.lr": 1e-4, "optim.name": "adamw", "epochs": 1.0, "data.rows_per_step": 32, "tuning.name": "lora",
            "tuning.rank": 16, "tuning.targets": ["all-linear"], "max_steps": None, "seed": 0}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("optim.lr=1e-5..1e-3:log", FloatDistribution(1e-5, 1e-3, log=True)),
        ("epochs=1..4", FloatDistribution(1, 4)),
        ("epochs = 1..3:0.5", FloatDistribution(1, 3, step=0.5)),
        ("tuning.rank=4..64:log", IntDistribution(4, 64, log=True)),
        ("data.rows_per_step=8..64:8", IntDistribution(8, 64, step=8)),
        ("max_steps=10..20", IntDistribution(10, 20)),
        ("data.rows_per_step=8|16|32", CategoricalDistribution(("8", "16", "32"))),
        ("tuning.targets=all-linear|q_proj v_proj", CategoricalDistribution(("all-linear", "q_proj v_proj"))),
    ],
)
def test_each_form_is_its_dimension(text, wanted):
    assert space_of([text], SETTINGS) == {text.partition("=")[0].strip(): wanted}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["optim.lr"], "KEY=LOW..HIGH"),
        (["optim.lr="], "KEY=LOW..HIGH"),
        (["optim.l=1..2"], "did you mean 'optim.lr'"),
        (["rank=1..2"], "did you mean 'tuning.rank'"),
        (["seed=1..2"], "not a setting to search"),
        (["optim.lr=1..2", "optim.lr=3..4"], "named twice"),
        (["optim.lr=2..1"], "from a lower number"),
        (["optim.lr=0..1:log"], "above 0 with :log"),
        (["optim.lr=0..1:-1"], "a step above 0"),
        (["optim.lr=0..high"], "'high' is no number"),
        (["optim.lr=0..nan"], "'nan' is no number"),
        (["tuning.rank=1..2.5"], "whole numbers"),
        (["tuning.rank=4|4"], "each choice once"),
        (["tuning.rank=4|"], "none empty"),
    ],
)
def test_what_is_no_range_is_refused(texts, message):
    with pytest.raises(ConfigError, match=message):
        space_of(texts, SETTINGS)


def test_ends_are_what_a_space_reaches_to():
    space = space_of(["epochs=1..4", "tuning.rank=2|8"], SETTINGS)
    assert ends(space) == [{"epochs": 1.0}, {"epochs": 4.0}, {"tuning.rank": "2"}, {"tuning.rank": "8"}]


def test_a_candidate_is_a_configuration_in_which_only_its_settings_differ():
    found = yaml.safe_load(document(SETTINGS, {"optim.lr": 0.5, "tuning.targets": "q_proj v_proj"}, ["tuning"]))
    assert found["optim"] == {"lr": 0.5, "name": "adamw"}
    assert found["tuning"] == {"name": "lora", "rank": 16, "targets": ["q_proj", "v_proj"]}
    assert found["max_steps"] is None


def test_of_a_plug_in_that_is_exchanged_no_settings_are_left():
    found = yaml.safe_load(document(SETTINGS, {"tuning.name": "full", "optim.name": "sgd"}, ["tuning"]))
    assert found["tuning"] == {"name": "full"}
    assert found["optim"] == {"lr": 1e-4, "name": "sgd"}
