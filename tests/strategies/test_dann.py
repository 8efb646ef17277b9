"""DANN: the body gets the reversed gradient of telling domains apart, the judge the plain one; target labels are not read."""

from dataclasses import replace

import laboratories
import numpy as np
import pytest
import torch
from torch import nn

from nlpft.errors import ConfigError
from nlpft.strategies import dann


def test_the_reversed_gradient_has_the_other_sign_and_the_factor():
    values = torch.tensor([1.0, -2.0], requires_grad=True)
    said = dann.Reversed.apply(values, 0.25)
    assert torch.equal(said, values)
    (said * torch.tensor([3.0, 5.0])).sum().backward()
    assert values.grad.tolist() == [-0.75, -1.25]


def test_features_move_to_where_the_judge_is_worse_and_the_judge_to_where_it_is_better():
    torch.manual_seed(0)
    network, features = nn.Linear(3, 1), torch.randn(8, 3, requires_grad=True)
    loss = dann.domain_loss(network, features[:4], features[4:], 1.0)
    loss.backward()
    with torch.no_grad():
        moved = features - 0.1 * features.grad
        assert dann.domain_loss(network, moved[:4], moved[4:], 1.0) > loss
        network.weight -= 0.1 * network.weight.grad
        assert dann.domain_loss(network, features[:4], features[4:], 1.0) < loss


def test_both_domains_weigh_alike_whatever_their_sizes():
    network = nn.Linear(2, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[2.0, 0.0]]))
        network.bias.zero_()
    one = dann.domain_loss(network, torch.ones(1, 2), torch.ones(1, 2), 1.0)
    many = dann.domain_loss(network, torch.ones(9, 2), torch.ones(1, 2), 1.0)
    assert many.item() == pytest.approx(one.item())
    assert one.item() == pytest.approx((np.log1p(np.exp(2)) + np.log1p(np.exp(-2))) / 2, rel=1e-5)


def test_the_factor_rises_from_0_towards_1():
    assert [dann.rising(p) for p in (0.0, 0.1, 1.0)] == pytest.approx([0, 0.46212, 0.99991], abs=1e-5)


def test_a_batch_has_as_many_rows_of_each_domain_and_no_label_of_the_target(made):
    lab, _ = made
    step = next(dann.both(lab, lab.unlabelled, 0))
    names = {name for batch in step for name in batch}
    assert "target.input_ids" in names
    assert not names & {"target.targets", "target.counted"}
    for batch in step:
        assert len(batch["target.cu_seqlens"]) == len(batch["cu_seqlens"])
    assert sum(len(batch["targets"]) for batch in step) == 8


def test_other_labels_of_the_target_change_nothing(made):
    lab, test = made
    first = laboratories.ran(lab, test, "dann --evaluations 0", seed=1)
    blind = lab.unlabelled.targets
    lab.unlabelled.targets = 1 - blind
    try:
        assert laboratories.ran(lab, test, "dann --evaluations 0", seed=1).counts == first.counts
    finally:
        lab.unlabelled.targets = blind


def test_the_judge_is_gone_afterwards(made):
    lab, test = made
    laboratories.ran(lab, test, "dann --evaluations 1")
    assert not hasattr(lab.model, "domain")


def test_without_rows_of_the_target_domain_it_is_refused(made):
    lab, test = made
    with pytest.raises(ConfigError, match="unlabelled is not set"):
        laboratories.ran(replace(lab, unlabelled=None), test, "dann")
    with pytest.raises(ConfigError, match="weight 0"):
        laboratories.ran(lab, test, "dann --weight 0")
    with pytest.raises(ConfigError, match="needs at least"):
        laboratories.ran(lab, test, "dann --evaluations 50")
