"""The meter counts every row that goes through the model, forward and backward, and lets nobody spend more."""

import pytest
import torch

from nlpft.errors import ConfigError, TrainingError
from nlpft.models.head_forward import logits
from nlpft.models.heads import new_head
from nlpft.strategies import _lab, _meter
from nlpft.strategies._meter import BudgetConfig, Meter
from nlpft.training import method


@pytest.fixture
def lab(made):
    _lab.begin(made[0], 0)
    return made[0]


def test_forward_and_backward_are_a_pass_and_forward_alone_a_third(lab):
    batch = lab.train.batch(range(4))
    loss = method.score(lab.cfg.objective, lab.model)[0](lab.model, batch)
    loss.backward()
    assert (lab.meter.rows, lab.meter.steps) == (4, 0.5)
    with torch.no_grad():
        logits(lab.model, lab.train.batch(range(6)))
    assert lab.meter.forward_rows == 6
    assert lab.meter.steps == pytest.approx(0.5 + 6 / 8 / 3)


def test_a_second_backward_is_two_thirds_of_a_pass(lab):
    loss = method.score(lab.cfg.objective, lab.model)[0](lab.model, lab.train.batch(range(4)))
    loss.backward(retain_graph=True)
    loss.backward()
    assert lab.meter.spent()[2:5] == (4, 0, 4)
    assert lab.meter.steps == pytest.approx(0.5 * (1 + 2 / 3))


def test_padded_rows_are_counted_too(lab):
    padded = {"input_ids": torch.tensor([[2, 5, 3], [2, 6, 3]]), "attention_mask": torch.ones(2, 3, dtype=torch.int64)}
    lab.model.set_attn_implementation("sdpa")
    lab.model(**padded)
    lab.model.set_attn_implementation("varlen")
    assert lab.meter.rows == 2


def test_a_further_model_counts_once_it_is_attached(lab):
    teacher = new_head(lab.cfg.model, "float32", lab.task)
    _meter.attach(teacher, lab.meter)
    with torch.no_grad():
        logits(teacher, lab.train.batch(range(6)))
    assert lab.meter.spent()[2:5] == (0, 6, 0)


def test_what_is_paused_or_stopped_is_not_counted(lab):
    with lab.meter.paused():
        _lab.outputs(lab, lab.eval)
    assert lab.meter.steps == 0
    spent = lab.meter.stop()
    _lab.outputs(lab, lab.eval)
    assert lab.meter.spent().steps == spent.steps == 0


def test_nobody_spends_more_than_the_limit(lab):
    lab.meter.count(20 * 8, "rows")
    with pytest.raises(TrainingError, match=r"more than budget\.steps 20"), torch.no_grad():
        logits(lab.model, lab.train.batch([0]))


def test_training_ends_before_what_is_kept_back(lab):
    reports = [report.step for report in _lab.fit(lab, 0, reserve=lambda: 4.5)]
    assert reports == list(range(1, 16))
    assert (lab.meter.rows, lab.meter.steps, lab.meter.optimizer_steps) == (15 * 8, 15, 15)


def test_a_budget_in_seconds_ends_training_at_the_pace_so_far():
    now = [0.0]
    meter = Meter(BudgetConfig(seconds=10), 8, lambda: now[0])
    taken = 0
    while meter.affords(1):
        meter.count(8, "rows")
        now[0] += 3
        taken += 1
    assert taken == 3
    assert (meter.used, meter.units(2)) == (9, 6)
    with meter.paused():
        now[0] += 100
    assert meter.used == 9
    now[0] += 3
    with pytest.raises(TrainingError, match="seconds"):
        meter.count(8, "rows")


@pytest.mark.parametrize("config", [BudgetConfig(), BudgetConfig(1, 1), BudgetConfig(-1)])
def test_a_budget_is_steps_or_seconds(config):
    with pytest.raises(ConfigError, match="set one of them"):
        _meter.check(config)
