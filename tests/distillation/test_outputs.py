"""Losses beside a teacher's outputs are the naive formulas, in value and gradient, whatever the pieces; only targets count."""

import math

import pytest
import torch
import torch.nn.functional as F

from nlpft.distillation import outputs
from nlpft.distillation.outputs import TopK, compared, mixed, soft, top_k, whole
from nlpft.models.projected_loss import projected
from nlpft.types import IGNORE

COUNT, VOCABULARY = 7, 11


def inputs(dtype=torch.float64, teacher_vocabulary=VOCABULARY):
    torch.manual_seed(0)
    hidden, weight = torch.randn(COUNT, 6, dtype=dtype), torch.randn(VOCABULARY, 6, dtype=dtype)
    teacher = 3 * torch.randn(COUNT, teacher_vocabulary, dtype=dtype)
    targets = torch.randint(0, min(VOCABULARY, teacher_vocabulary), (COUNT,))
    targets[::3] = IGNORE
    return hidden.requires_grad_(), weight.requires_grad_(), teacher, targets


def naive(logits, teacher, targets, match, temperature, weight):
    """Hinton's formula, position by position, by autograd."""
    total = 0.0
    for own, its, target in zip(logits, teacher, targets.tolist(), strict=True):
        if target == IGNORE:
            continue
        if match == "hard":
            learnt = -F.log_softmax(own, 0)[its.argmax()]
        else:
            p, q = F.softmax(its / temperature, 0), F.softmax(own / temperature, 0)
            learnt = temperature**2 * (p * (p / q).log()).sum()
        total = total + weight * learnt - (1 - weight) * F.log_softmax(own, 0)[target]
    return total


def same(found, expected, *inputs):
    torch.testing.assert_close(found, expected)
    got, wanted = (torch.autograd.grad(0.3 * x, inputs, retain_graph=True) for x in (found, expected))
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize("weight", [1.0, 0.3])
@pytest.mark.parametrize(("match", "temperature"), [("soft", 1.0), ("soft", 2.5), ("hard", 2.5)])
def test_it_is_the_naive_formula_in_value_and_gradient(match, temperature, weight, rows):
    hidden, head, teacher, targets = inputs()
    score = mixed(targets, compared(lambda part: teacher[part], match, temperature), weight)
    expected = naive(hidden @ head.T, teacher, targets, match, temperature, weight)
    same(projected(hidden, head, score, rows), expected, hidden, head)


@pytest.mark.parametrize("rows", [2, 100])
def test_logits_that_are_there_as_a_whole_cost_the_same(rows):
    hidden, head, teacher, targets = inputs()
    score = mixed(targets, compared(lambda part: teacher[part], "soft", 2.0), 0.4)
    logits = hidden @ head.T
    same(whole(logits, score, rows), naive(logits, teacher, targets, "soft", 2.0, 0.4), hidden, head)


def test_no_more_positions_than_a_piece_are_asked_for():
    hidden, head, teacher, targets = inputs()
    asked = []

    def answers(part):
        asked.append(len(range(COUNT)[part]))
        return teacher[part]

    projected(hidden, head, mixed(targets, compared(answers, "soft", 2.0), 0.5), 3)
    assert max(asked) <= 3
    assert sum(asked) == COUNT


@pytest.mark.parametrize("match", ["soft", "hard"])
def test_stored_answers_of_the_whole_vocabulary_are_the_teacher(match):
    hidden, head, teacher, targets = inputs()
    stored = top_k(teacher, VOCABULARY, 2.5)
    assert stored.rest.tolist() == [-math.inf] * COUNT
    by_store = projected(hidden, head, mixed(targets, compared(stored, match, 2.5), 0.6), 3)
    by_teacher = projected(hidden, head, mixed(targets, compared(lambda part: teacher[part], match, 2.5), 0.6), 3)
    same(by_store, by_teacher, hidden, head)


@pytest.mark.parametrize("k", [1, 4])
def test_what_is_not_stored_is_one_bucket(k):
    hidden, head, teacher, targets = inputs()
    stored, temperature = top_k(teacher, k, 2.5), 2.5
    assert stored.ids.tolist() == teacher.topk(k).indices.tolist()
    logits = hidden @ head.T
    p, q = F.softmax(teacher / temperature, 1), F.softmax(logits / temperature, 1)
    kept = torch.zeros_like(p, dtype=torch.bool).scatter(1, stored.ids, True)
    inside = (p * (p / q).log()).masked_fill(~kept, 0.0).sum(1)
    r, s = (x.masked_fill(kept, 0.0).sum(1) for x in (p, q))
    naively = (temperature**2 * (inside + r * (r / s).log()))[targets != IGNORE].sum()
    found = projected(hidden, head, mixed(targets, compared(stored, "soft", temperature), 1.0), 3)
    same(found, naively, hidden, head)
    assert found < projected(hidden, head, mixed(targets, compared(lambda part: teacher[part], "soft", 2.5), 1.0))


def test_equal_outputs_cost_nothing_and_teach_nothing():
    logits = torch.tensor([[1.0, 2.0, 3.0], [4.0, -1.0, 0.0]])
    nats, gradient = soft(logits, logits.clone(), 2.0)
    torch.testing.assert_close(nats, torch.zeros(2))
    torch.testing.assert_close(gradient, torch.zeros(2, 3))


def test_the_gradient_keeps_its_size_at_high_temperatures():
    """Hinton's reason for T^2: for T -> infinity the gradient tends to (z - v) / N, not to 0."""
    own, its = torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([[0.0, 1.0, -1.0]])
    _, gradient = soft(own.double(), its.double(), 1e4)
    torch.testing.assert_close(gradient, (own - its).double() / 3, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("teacher_vocabulary", [9, 13])
def test_entries_that_only_one_model_has_are_padding(teacher_vocabulary):
    _, _, teacher, _ = inputs(teacher_vocabulary=teacher_vocabulary)
    logits = torch.randn(COUNT, VOCABULARY, dtype=torch.float64)
    shared = min(VOCABULARY, teacher_vocabulary)
    nats, gradient = soft(logits, teacher, 2.0)
    alone, its = soft(logits[:, :shared], teacher[:, :shared], 2.0)
    torch.testing.assert_close(nats, alone)
    torch.testing.assert_close(gradient[:, :shared], its)
    assert not gradient[:, shared:].any()


def test_large_logits_do_not_overflow():
    own, its = torch.tensor([[1e4, -1e4, 0.0]]), torch.tensor([[-1e4, 1e4, 0.0]])
    stored = TopK(torch.tensor([[1]]), torch.zeros(1, 1), torch.tensor([-2e4]))
    for nats, gradient in (soft(own, its, 1.0), outputs.bucketed(own, stored, 1.0)):
        assert nats.item() == pytest.approx(2e4)
        assert gradient.tolist() == [[1.0, -1.0, 0.0]]
