"""Losses on hidden states and relations are the naive formulas; only targets and what they see in their own row count."""

import math

import pytest
import steps
import tiny
import tiny_heads
import torch
import torch.nn.functional as F

from nlpft.distillation import states
from nlpft.distillation.states import States, captured, hidden_loss, pairs, query_key_value, relations_loss
from nlpft.errors import ConfigError, ModelError
from nlpft.models.blocks import blocks
from nlpft.models.forward import loss

BOUNDS, POSITIONS = torch.tensor([0, 5, 9]), torch.tensor([1, 3, 5, 8, 0])
COUNTS = torch.tensor([True, True, False, True, False])


def related(width, seed):
    draw = torch.Generator().manual_seed(seed)
    return States({}, {n: torch.randn(1, 9, width, generator=draw, dtype=torch.float64) for n in range(3)})


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("own", "its"), [(8, 8), (8, 12)])
def test_relations_are_those_of_the_naive_formula(own, its, causal):
    student, teacher, parts = related(own, 0), related(its, 1), 4
    naive = 0.0
    for position in (1, 3, 8):
        start, end = (0, 5) if position < 5 else (5, 9)
        end = position + 1 if causal else end
        for kind in range(3):
            for part in range(parts):
                one, other = (
                    F.softmax(x[start:end] @ x[position] / math.sqrt(x.shape[1]), 0)
                    for x in (s.related[kind][0].unflatten(1, (parts, -1))[:, part] for s in (student, teacher))
                )
                naive += (other * (other / one).log()).sum() / (3 * parts)
    found = relations_loss(student, teacher, BOUNDS, POSITIONS, COUNTS, parts, causal)
    torch.testing.assert_close(found.double(), naive)


def test_equal_relations_cost_nothing_and_have_a_finite_gradient():
    student = related(8, 0)
    for x in student.related.values():
        x.requires_grad_()
    total = relations_loss(student, related(8, 0), BOUNDS, POSITIONS, COUNTS, 2, causal=True)
    total.backward()
    assert total.item() == pytest.approx(0.0, abs=1e-12)
    assert all(x.grad.abs().max() < 1e-7 for x in student.related.values())


def test_hidden_states_cost_their_distance_by_the_teachers_size():
    own, its = torch.zeros(1, 9, 2), torch.zeros(1, 9, 2)
    own[0, 1], its[0, 1] = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])  # 25 / 16
    own[0, 3], its[0, 3] = torch.tensor([1.0, 1.0]), torch.tensor([1.0, 1.0])  # 0
    own[0, 8], its[0, 8] = torch.tensor([0.0, 0.0]), torch.tensor([2.0, 0.0])  # 1
    own[0, 5], its[0, 5] = torch.tensor([9.0, 9.0]), torch.tensor([1.0, 0.0])  # no target
    found = hidden_loss([own], [its], POSITIONS, COUNTS, [None])
    assert found.item() == pytest.approx(25 / 16 + 1)
    assert hidden_loss([own, its], [its, its], POSITIONS, COUNTS, [None, None]).item() == pytest.approx(41 / 32)


def test_a_projection_brings_one_width_to_the_other():
    bring = torch.nn.Linear(2, 3, bias=False)
    own = torch.randn(1, 9, 2)
    assert hidden_loss([own], [bring(own).detach()], POSITIONS, COUNTS, [bring]).item() == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [(3, 3, [0, 1, 2]), (2, 6, [2, 5]), (10, 30, list(range(2, 30, 3))), (4, 2, [0, 0, 1, 1])],
)
def test_blocks_are_paired_by_their_share_of_the_depth(student, teacher, expected):
    assert pairs(student, teacher) == list(enumerate(expected))


def test_captured_states_are_those_that_transformers_gives():
    model, batch = tiny.make_model().eval(), steps.packed([3, 1, 4, 1, 5])
    with captured(model, [0, 1, 2], relations=True) as found:
        loss(model, batch)
    assert not any(block._forward_hooks for block in blocks(model))
    told = model(batch["input_ids"], output_hidden_states=True).hidden_states
    torch.testing.assert_close(found.hidden[0], told[1])
    torch.testing.assert_close(model.model.norm(found.hidden[2]), told[3])
    assert [x.shape[-1] for _, x in sorted(found.related.items())] == [32, 16, 16]


def test_encoders_relations_are_found_too_and_one_layer_for_all_is_refused():
    names = query_key_value(blocks(tiny_heads.make_bert())[-1], "Bert")
    assert [type(layer) for layer in names] == [torch.nn.Linear] * 3
    with pytest.raises(ModelError, match="no layers of its own"):
        query_key_value(torch.nn.ModuleDict({"c_attn": torch.nn.Linear(2, 6)}), "GPT2")


def test_parts_divide_the_heads_of_both():
    assert states.heads(tiny.make_model(), tiny.make_model()) == 2
    states.check_heads(2, [tiny.make_model()], "distillation")
    with pytest.raises(ConfigError, match=r"relation_heads 3.*leave it unset for 2"):
        states.check_heads(3, [tiny.make_model()], "distillation")
