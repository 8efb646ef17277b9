"""The fused projection and loss is the plain one, in value and gradient."""

import pytest
import tiny
import torch

from nlpft.losses import causal_lm_loss
from nlpft.models import forward as forward_module
from nlpft.models import projected_loss as projected_loss_module
from nlpft.models.forward import forward, loss, projection
from nlpft.models.projected_loss import logits_to_gradient, projected_loss, spans
from nlpft.types import IGNORE


def inputs(count, dtype=torch.float64):
    torch.manual_seed(0)
    hidden, weight = torch.randn(count, 6, dtype=dtype), torch.randn(11, 6, dtype=dtype)
    targets = torch.randint(0, 11, (count,))
    targets[::3] = IGNORE
    return hidden.requires_grad_(), weight.requires_grad_(), targets


@pytest.mark.parametrize("count", [0, 1, 7, 12])
@pytest.mark.parametrize("rows", [1, 4, 100])
def test_it_is_the_plain_loss_in_value_and_gradient(count, rows):
    hidden, weight, targets = inputs(count)
    fused = projected_loss(hidden, weight, targets, rows)
    plain = causal_lm_loss(hidden @ weight.T, targets)
    torch.testing.assert_close(fused, plain)
    got, expected = (torch.autograd.grad(x * 0.3, (hidden, weight)) for x in (fused, plain))
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_a_frozen_head_gets_no_gradient_and_hands_one_on():
    hidden, weight, targets = inputs(7)
    expected = torch.autograd.grad(causal_lm_loss(hidden @ weight.T, targets), hidden)[0]
    projected_loss(hidden, weight.detach(), targets).backward()
    torch.testing.assert_close(hidden.grad, expected)
    assert weight.grad is None


def test_bfloat16_differs_from_the_plain_loss_by_rounding_alone():
    hidden, weight, targets = inputs(64, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        fused = projected_loss(hidden, weight, targets, 16)
    plain = causal_lm_loss(hidden @ weight.T, targets)
    assert fused.dtype == torch.float32
    torch.testing.assert_close(fused, plain, rtol=5e-3, atol=0)
    got, expected = (torch.autograd.grad(x, weight)[0] for x in (fused, plain))
    assert (got - expected).norm() < 0.02 * expected.norm()


def test_large_logits_do_not_overflow():
    logits, targets = torch.tensor([[1e4, -1e4, 0.0], [3e4, 3e4, 0.0]]), torch.tensor([1, 0])
    assert logits_to_gradient(logits.clone(), targets).item() == pytest.approx(2e4 + 0.6931, rel=1e-6)


def test_without_gradients_none_is_computed(monkeypatch):
    hidden, weight, targets = inputs(7)
    expected = causal_lm_loss(hidden @ weight.T, targets).detach()
    monkeypatch.setattr(projected_loss_module, "add_product", lambda *args: pytest.fail("a gradient was computed"))
    with torch.no_grad():
        torch.testing.assert_close(projected_loss(hidden, weight, targets), expected)


def test_going_backwards_twice_is_noticed():
    hidden, weight, targets = inputs(7)
    value = projected_loss(hidden, weight, targets)
    value.backward(retain_graph=True)
    with pytest.raises(AssertionError, match="twice"):
        value.backward()


@pytest.mark.parametrize(("count", "most"), [(0, 4), (1, 4), (4, 4), (5, 4), (13, 4)])
def test_spans_cover_every_position_once(count, most):
    numbers = [i for part in spans(count, most) for i in range(count)[part]]
    assert numbers == list(range(count))
    assert all(part.stop - part.start <= most for part in spans(count, most))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("vocabulary", [1000, 5001, 49152])
def test_the_kernel_is_the_plain_arithmetic(vocabulary):
    from nlpft.models import _cross_entropy

    logits, targets = torch.randn(50, vocabulary, device="cuda").bfloat16(), torch.arange(50, device="cuda")
    targets[::7] = IGNORE
    one, other = logits.clone(), logits.double()
    torch.testing.assert_close(
        _cross_entropy.logits_to_gradient(one, targets).double(), logits_to_gradient(other, targets), rtol=1e-5, atol=0
    )
    assert (one.double() - other).norm() < 1e-3 * other.norm()


def batch():
    ids = torch.randint(0, 400, (1, 20), generator=torch.Generator().manual_seed(0))
    positions = torch.tensor([0, 3, 4, 18, 0, 0])
    targets = torch.where(torch.arange(6) < 4, ids[0, positions + 1], IGNORE)
    places = {"position_ids": torch.arange(20)[None], "positions": positions, "targets": targets}
    return {"input_ids": ids, **places}


def test_a_models_loss_is_that_of_its_logits():
    model, b = tiny.make_model(), batch()
    expected = causal_lm_loss(forward(model, b, b["positions"]), b["targets"])
    got = loss(model, b)
    torch.testing.assert_close(got, expected)
    a, c = (torch.autograd.grad(x, list(model.parameters())) for x in (got, expected))
    for one, other in zip(a, c, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert "forward" not in vars(model.lm_head)


@pytest.mark.parametrize("change", ["softcap", "bias", "adapted"])
def test_logits_that_are_more_than_a_projection_are_not_fused(change):
    model = tiny.make_model()
    if change == "softcap":
        model.config.final_logit_softcapping = 30.0
    elif change == "bias":
        model.lm_head = torch.nn.Linear(32, 400)
    else:
        model.lm_head = torch.nn.Sequential(model.lm_head)
    assert projection(model) is None
    assert loss(model, batch()).requires_grad


def test_the_head_is_as_it_was_after_an_error(monkeypatch):
    model = tiny.make_model()
    monkeypatch.setattr(forward_module, "projected_loss", lambda *args, **more: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loss(model, batch())
    assert "forward" not in vars(model.lm_head)


@pytest.mark.parametrize("rows", [1, 4, 100])
def test_a_smoothed_target_is_torchs_in_value_and_gradient(rows):
    hidden, weight, targets = inputs(12)
    fused = projected_loss(hidden, weight, targets, rows, smoothing=0.1)
    plain = causal_lm_loss(hidden @ weight.T, targets, 0.1)
    torch.testing.assert_close(fused, plain)
    assert (plain - causal_lm_loss(hidden @ weight.T, targets)).abs() > 1e-3
    got, expected = (torch.autograd.grad(x * 0.3, (hidden, weight)) for x in (fused, plain))
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other)
