"""The objective of causal language models: smoothed in training alone."""

import pytest
import steps
import tiny

from nlpft.errors import ConfigError
from nlpft.models.forward import loss
from nlpft.objectives import causal_lm


def test_targets_are_smoothed_in_training_and_plain_in_evaluation():
    model, batch = tiny.make_model(), steps.packed()
    score = causal_lm.build(causal_lm.Config(label_smoothing=0.3), model)
    assert score(model.eval(), batch).item() == loss(model, batch).item()
    assert score(model.train(), batch).item() == loss(model, batch, 0.3).item() != loss(model, batch).item()


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_smoothing_that_is_no_share_is_refused(share):
    with pytest.raises(ConfigError, match=r"objective\.label_smoothing"):
        causal_lm.build(causal_lm.Config(label_smoothing=share), None)
