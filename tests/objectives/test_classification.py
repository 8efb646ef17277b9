"""Losses of labels and numbers are torch's own, summed; weights, smoothing and focus change them as their papers say."""

import pytest
import torch
import torch.nn.functional as F

from nlpft.errors import ConfigError
from nlpft.objectives import classification
from nlpft.objectives.classification import Config, build, check, label_weights, row_losses
from nlpft.types import Task

SCORES = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, 3.0], [1.0, 1.0, 1.0]])
TARGETS = torch.tensor([0, 1, 2])
ONE = Task("single_label_classification", ("a", "b", "c"), (6, 3, 0))
SEVERAL = Task("multi_label_classification", ("a", "b", "c"), (6, 3, 0))
NUMBER = Task("regression")


def test_one_label_costs_its_cross_entropy():
    assert torch.allclose(
        row_losses(Config(), ONE, SCORES, TARGETS), F.cross_entropy(SCORES, TARGETS, reduction="none")
    )


def test_smoothing_is_torchs():
    expected = F.cross_entropy(SCORES, TARGETS, reduction="none", label_smoothing=0.1)
    assert torch.allclose(row_losses(Config(label_smoothing=0.1), ONE, SCORES, TARGETS), expected)


def test_focus_scales_by_the_probability_that_is_missing():
    p = SCORES.softmax(1)[range(3), TARGETS]
    assert torch.allclose(row_losses(Config(focal=2.0), ONE, SCORES, TARGETS), -((1 - p) ** 2) * p.log())


def test_balanced_weights_make_every_label_count_alike():
    weights = label_weights(ONE)
    assert weights.tolist() == [9 / (2 * 6), 9 / (2 * 3), 0]
    plain = row_losses(Config(), ONE, SCORES[:2], TARGETS[:2])
    assert torch.allclose(
        row_losses(Config(), ONE, SCORES[:2], TARGETS[:2], weights), plain * torch.tensor([0.75, 1.5])
    )


def test_several_labels_cost_the_sum_of_their_binary_cross_entropies():
    targets = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1]])
    expected = F.binary_cross_entropy_with_logits(SCORES, targets, reduction="none").sum(1)
    assert torch.allclose(row_losses(Config(), SEVERAL, SCORES, targets), expected)
    p = torch.sigmoid(SCORES)
    missing = torch.where(targets > 0, 1 - p, p)
    assert torch.allclose(
        row_losses(Config(focal=1.0), SEVERAL, SCORES, targets), -(missing * (1 - missing).log()).sum(1)
    )


def test_numbers_cost_their_squared_or_hubers_error():
    targets = torch.tensor([0.0, 0.0, 0.9])
    assert row_losses(Config(), NUMBER, SCORES[:, :1], targets).tolist() == pytest.approx([4.0, 0.01, 0.01])
    assert row_losses(Config(error="huber"), NUMBER, SCORES[:, :1], targets).tolist() == pytest.approx(
        [1.5, 0.005, 0.005]
    )


@pytest.mark.parametrize(
    ("config", "task", "message"),
    [
        (Config(), Task("tagging", ("O",)), "recipes/tag.py"),
        (Config(label_smoothing=1.0), ONE, "label_smoothing 1.0"),
        (Config(focal=-1.0), ONE, "focal -1.0"),
        (Config(class_weights="balanced"), NUMBER, "no labels to weigh"),
        (Config(class_weights="balanced"), Task("single_label_classification", ("a", "b")), "how often each label"),
    ],
)
def test_settings_that_mean_nothing_are_refused(config, task, message):
    with pytest.raises(ConfigError, match=message):
        check(config, task)


def test_a_mixed_row_costs_both_of_its_targets_by_their_shares(monkeypatch):
    model = torch.nn.Linear(1, 1)
    model.task = ONE
    monkeypatch.setattr(classification, "logits", lambda model, batch: SCORES)
    batch = {
        "targets": TARGETS,
        "counted": torch.tensor([True, True, True]),
        "partner": torch.tensor([1, 0, 2]),
        "share": torch.tensor([0.75, 0.75, 1.0]),
    }
    one, other = (F.cross_entropy(SCORES, t, reduction="none") for t in (TARGETS, torch.tensor([1, 0, 2])))
    assert torch.allclose(build(Config(), model)(model, batch), (0.75 * one + 0.25 * other)[:2].sum() + one[2])
