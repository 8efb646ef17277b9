"""The optimiser that settings stand for; settings that could not train anything are refused."""

import pytest
import tiny

from nlpft.errors import ConfigError
from nlpft.training.optim import OptimConfig, build_optimizer


def test_vectors_do_not_decay():
    groups = build_optimizer(tiny.make_model(), OptimConfig(weight_decay=0.1)).param_groups
    assert {p.ndim >= 2: g["weight_decay"] for g in groups for p in g["params"]} == {True: 0.1, False: 0.0}


@pytest.mark.parametrize(
    "config",
    [
        OptimConfig(lr=0),
        OptimConfig(lr=float("nan")),
        OptimConfig(warmup=-1),
        OptimConfig(momentum=1.0),
        OptimConfig(layer_decay=0.0),
        OptimConfig(layer_decay=1.1),
        OptimConfig(cycles=0),
        OptimConfig(end=0.0),
        OptimConfig(cooldown=0.0),
        OptimConfig(lr_of=("norm",)),
        OptimConfig(lr_of=("*norm*=0",)),
        OptimConfig(lr_of=("*norm*=fast",)),
    ],
)
def test_settings_that_train_nothing_are_refused(config):
    with pytest.raises(ConfigError, match=r"optim\."):
        build_optimizer(tiny.make_model(), config)
