"""Ensembles: what is put together equals its formula, and one member alone is that member."""

import laboratories
import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from nlpft.errors import ConfigError
from nlpft.search.fitness import Pretrained
from nlpft.strategies import _lab, ensemble
from nlpft.strategies.ensemble import Config


@pytest.fixture
def lab(made):
    _lab.begin(made[0], 0)
    return made[0]


def said(members: int = 3, rows: int = 50, outputs: int = 4, seed: int = 0) -> np.ndarray:
    return log_softmax(np.random.default_rng(seed).normal(size=(members, rows, outputs)), axis=-1)


def member(lab, seed: int) -> Pretrained:
    _lab.restart(lab, seed)
    return Pretrained(lab.model)


def test_the_mean_is_that_of_probabilities():
    known = said()
    assert np.exp(ensemble.mean(known)) == pytest.approx(np.exp(known).mean(0))
    weights = np.array([0.5, 0.3, 0.2])
    assert np.exp(ensemble.mean(known, weights)) == pytest.approx(np.einsum("m,mto->to", weights, np.exp(known)))


def test_a_vote_says_what_most_say_and_is_a_probability():
    known = np.log(np.array([[[0.8, 0.1, 0.1]], [[0.1, 0.5, 0.4]], [[0.2, 0.41, 0.39]]]))
    votes = ensemble.vote(known)
    assert votes.argmax(1).tolist() == [1]
    assert ensemble.mean(known).argmax(1).tolist() == [0]
    assert np.exp(votes).sum() == pytest.approx(1)
    assert np.exp(votes[0]) == pytest.approx([(1 + 1 / 3) / 4, (2 + 1 / 3) / 4, (1 / 3) / 4], abs=1e-5)


def test_of_equal_votes_the_more_probable_label_is_ahead():
    known = np.log(np.array([[[0.1, 0.9]], [[0.6, 0.4]]]))
    assert ensemble.vote(known).argmax(1).tolist() == [1]
    assert ensemble.vote(known[::-1]).argmax(1).tolist() == [1]


def test_weights_favour_the_member_that_is_right():
    targets = np.random.default_rng(1).integers(0, 4, 200)
    good = log_softmax(2.0 * np.eye(4)[targets] + np.random.default_rng(2).normal(size=(200, 4)), axis=-1)
    known = np.stack([said(1, 200)[0], good, said(1, 200, seed=5)[0]])
    weights = ensemble.best_weights(known, targets)
    assert weights.sum() == pytest.approx(1)
    assert weights[1] > 0.8
    own = -ensemble.mean(known, weights)[np.arange(200), targets].mean()
    for other in (np.full(3, 1 / 3), np.array([0.1, 0.8, 0.1]), np.array([0.0, 1.0, 0.0])):
        assert own <= -ensemble.mean(known, other)[np.arange(200), targets].mean() + 1e-5


def test_stacking_learns_which_member_to_believe():
    """The second member says the label after the right one; labels that data.eval lacks stay possible."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, 300)
    noise, wrong = rng.normal(size=(300, 4)), 3.0 * np.eye(4)[(targets + 1) % 4]
    known = np.stack([log_softmax(noise, axis=-1), log_softmax(wrong, axis=-1)])
    combine = ensemble.stacked(known[:, :200], targets[:200], 4)
    found = combine(known[:, 200:])
    assert (found.argmax(1) == targets[200:]).mean() > 0.95
    assert (ensemble.mean(known[:, 200:]).argmax(1) == targets[200:]).mean() < 0.5
    assert np.isfinite(found).all()
    assert np.exp(found).sum(1) == pytest.approx(np.ones(100), abs=1e-6)


def test_with_one_label_on_eval_stacking_is_the_mean():
    known = said(2, 5)
    assert ensemble.stacked(known, np.zeros(5, np.int64), 4)(known) == pytest.approx(ensemble.mean(known))


def test_a_soup_of_one_is_that_one(lab, made):
    one = member(lab, 1)
    wanted = _lab.outputs(lab, made[1]).logits
    found = ensemble.mean_weights([one.values])
    assert all(torch.equal(found[name], value) for name, value in one.values.items())
    for combine in ("soup", "greedy_soup"):
        assert np.array_equal(ensemble.soup(Config(combine=combine), lab, [one])(made[1]), wanted)


@pytest.mark.parametrize("combine", ["mean", "weighted", "vote"])
def test_an_ensemble_of_one_says_what_that_one_says(lab, made, combine):
    one = member(lab, 1)
    wanted = softmax(_lab.outputs(lab, made[1]).logits, axis=1)
    found = ensemble.answers(Config(combine=combine), lab, [one])(made[1])
    if combine == "vote":
        assert (found.argmax(1) == wanted.argmax(1)).all()
    else:
        assert np.exp(found) == pytest.approx(wanted, abs=1e-6)


def test_a_soup_has_the_mean_of_weights_and_keeps_whole_numbers():
    a = {"w": torch.tensor([1.0, 3.0]), "ids": torch.tensor([1, 2])}
    b = {"w": torch.tensor([3.0, 5.0]), "ids": torch.tensor([1, 2])}
    found = ensemble.mean_weights([a, b])
    assert found["w"].tolist() == [2, 4]
    assert found["ids"].tolist() == [1, 2]


def test_a_greedy_soup_leaves_out_what_makes_it_worse(lab, monkeypatch):
    """Scores by how near the mean of one weight comes to 1.005."""
    members = [{"w": torch.tensor([x])} for x in (0.5, 1.0, 1.008)]
    held = {}
    monkeypatch.setattr(ensemble, "put", lambda lab, weights: held.update(weights))
    monkeypatch.setattr(_lab, "judged", lambda lab: (abs(held["w"].item() - 1.005), 0.0))
    chosen = ensemble.greedy(lab, members)
    assert [one["w"].item() for one in chosen] == pytest.approx([1.008, 1.0])


def test_members_of_soups_begin_alike_and_others_do_not(lab, monkeypatch):
    begun, restart = [], _lab.restart
    monkeypatch.setattr(_lab, "restart", lambda lab, seed: (begun.append(seed), restart(lab, seed))[1])
    for combine in ("soup", "mean"):
        _lab.begin(lab, 7)
        begun.clear()
        members = list(ensemble.apart(Config(combine=combine), lab, 7, 0.0))
        assert len(set(begun)) == (1 if combine == "soup" else 3)
        weights = [one.values["classifier.weight"] for one in members]
        assert not torch.equal(weights[0], weights[1])
        assert lab.meter.optimizer_steps == 18


def test_snapshots_are_taken_where_the_rate_is_lowest(lab, monkeypatch):
    rates, fit = [], _lab.fit

    def watched(*words, **more):
        for report in fit(*words, **more):
            rates.append(report.lr)
            yield report

    monkeypatch.setattr(_lab, "fit", watched)
    taken = [len(rates) for _ in ensemble.snapshots(Config(count=4), lab, 0, 0.0)]
    assert taken == [5, 10, 15, 20]
    for at in taken:
        assert rates[at - 1] == min(rates[at - 5 : at])
    assert rates[5] == rates[0] == max(rates)


@pytest.mark.parametrize(("words", "message"), [("--count 0", "at least one"), ("--count 30", "needs at least 30")])
def test_ensembles_that_cannot_be_are_refused(made, words, message):
    with pytest.raises(ConfigError, match=message):
        laboratories.ran(*made, f"ensemble {words}")
