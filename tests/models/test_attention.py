"""Attention of packed rows: every implementation gives a row what it has alone; what one cannot serve is refused."""

import pytest
import tiny
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import MistralConfig, MistralForCausalLM

from nlpft.errors import ModelError
from nlpft.models import attention, compute
from nlpft.models.forward import check_isolation, distance, forward

CPU = torch.device("cpu")
LENGTHS = (7, 1, 12, 4)


def packed(seed=0):
    """A batch of rows of LENGTHS random tokens."""
    ids = torch.randint(0, 400, (1, sum(LENGTHS)), generator=torch.Generator().manual_seed(seed))
    return {"input_ids": ids, "position_ids": torch.cat([torch.arange(n) for n in LENGTHS])[None]}


def windowed(spread=0.02):
    """A Mistral whose tokens see four tokens. spread: of its weights; with more, attention counts for more."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    return MistralForCausalLM(MistralConfig(**sizes, **heads, sliding_window=4, initializer_range=spread)).eval()


def by_row(model, batch):
    """Logits [tokens, vocab], each row by itself through eager attention."""
    model.set_attn_implementation("eager")
    pieces = [{name: x.split(LENGTHS, 1)[i] for name, x in batch.items()} for i in range(len(LENGTHS))]
    return torch.cat([forward(model, piece, torch.arange(n)) for piece, n in zip(pieces, LENGTHS, strict=True)])


@torch.no_grad()
@pytest.mark.parametrize("make", [lambda: tiny.make_model().eval(), windowed])
@pytest.mark.parametrize("name", ["varlen", "sdpa", "eager", "flex_attention"])
def test_packed_logits_are_those_of_the_rows_alone(name, make):
    model, batch = make(), packed()
    expected = by_row(model, batch)
    model.set_attn_implementation(name)
    torch.testing.assert_close(forward(model, batch, torch.arange(sum(LENGTHS))), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("make", [lambda: tiny.make_model().eval(), windowed])
def test_packed_logits_are_those_of_the_rows_alone_on_a_gpu(make):
    model = make().to("cuda", torch.bfloat16)
    batch = {name: x.cuda() for name, x in packed().items()}
    expected = by_row(model, batch)
    model.set_attn_implementation("varlen")
    assert distance(forward(model, batch, torch.arange(sum(LENGTHS), device="cuda")), expected) < 0.02


def test_varlen_gradients_are_those_of_a_mask():
    model, batch, gradients = tiny.make_model(), packed(), []
    for name in ("varlen", "sdpa"):
        model.set_attn_implementation(name)
        forward(model, batch, torch.arange(sum(LENGTHS))).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
        model.zero_grad()
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_varlen_refuses_what_it_does_not_compute():
    q = torch.zeros(1, 2, 3, 8)
    with pytest.raises(ModelError, match=r"softcap.*compute\.attention sdpa"):
        attention.varlen(
            torch.nn.Linear(1, 1), q, q, q, cu_seq_lens_q=torch.tensor([0, 3]), max_length_q=3, softcap=5.0
        )
    with FakeTensorMode():
        on_gpu = torch.empty(1, 2, 3, 8, device="cuda")
        rows = {"cu_seq_lens_q": torch.empty(2, device="cuda"), "max_length_q": 3}
        with pytest.raises(ModelError, match="attention dropout"):
            attention.varlen(torch.nn.Linear(1, 1), on_gpu, on_gpu, on_gpu, **rows, dropout=0.1)
    with pytest.raises(ModelError, match="in place of cu_seqlens"):
        attention.varlen(torch.nn.Linear(1, 1), q, q, q)


def test_weights_are_dropped_on_the_cpu():
    q, rows = torch.zeros(1, 2, 40, 8), {"cu_seq_lens_q": torch.tensor([0, 40]), "max_length_q": 40, "is_causal": False}
    ones = torch.ones_like(q)
    found = torch.stack(
        [attention.varlen(torch.nn.Linear(1, 1), q, q, ones, **rows, dropout=0.5)[0] for _ in range(50)]
    )
    assert found.std() > 0.05
    assert found.mean() == pytest.approx(1, abs=0.02)
    assert torch.allclose(attention.varlen(torch.nn.Linear(1, 1), q, q, ones, **rows)[0], torch.ones(1))


def test_a_window_in_both_directions_is_that_of_a_mask():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 9, 8).unbind()
    rows = {"cu_seq_lens_q": torch.tensor([0, 9]), "max_length_q": 9, "is_causal": False}
    near = (torch.arange(9)[:, None] - torch.arange(9)).abs() < 3
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, near).transpose(1, 2)
    assert torch.allclose(
        attention.varlen(torch.nn.Linear(1, 1), q, k, v, **rows, sliding_window=3)[0], expected, atol=1e-6
    )


def test_rows_of_about_one_length_are_computed_together():
    assert attention._groups([25, 24, 20, 18, 9, 8, 8, 3]) == [[25, 24, 20, 18], [9, 8, 8, 3]]
    assert attention._groups([10, 500, 10]) == [[10], [500], [10]]
    assert attention._groups([300] * 3) == [[300] * 3]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 2])
def test_rows_computed_together_have_values_and_gradients_that_they_have_alone(causal, window):
    """Rows of 9 and 3 tokens: what fills up lies behind every window, and sees none that is there."""
    torch.manual_seed(0)
    lengths, kept = [9, 3, 5], []
    assert attention._groups(lengths) == [lengths]
    for parts in ([lengths], [[n] for n in lengths]):
        torch.manual_seed(1)
        qkv = torch.randn(3, sum(lengths), 2, 8, requires_grad=True)
        sizes = [sum(part) for part in parts]
        rows = zip(parts, *(x.split(sizes) for x in qkv), strict=True)
        found = torch.cat([attention._rows(part, q, k, v, None, window, causal, 0.0) for part, q, k, v in rows])
        found.square().sum().backward()
        kept.append((found.detach(), qkv.grad))
    for one, other in zip(*kept, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_choice_is_what_serves_the_model():
    model, dropping = tiny.make_model(), tiny.make_model(dropout=0.1)
    assert attention.choose(model, CPU, torch.float32, compiled=False) == "varlen"
    assert attention.choose(model, CPU, torch.float32, compiled=True) == "sdpa"
    assert attention.choose(model, torch.device("cuda"), torch.float32, compiled=True) == "sdpa"
    assert attention.choose(dropping, CPU, torch.float32, compiled=False) == "sdpa"


def test_the_check_sees_an_attention_that_is_not_the_models_own(monkeypatch):
    model = windowed(spread=0.5)
    model.set_attn_implementation("varlen")
    ids = torch.randint(0, 400, (1, 24), generator=torch.Generator().manual_seed(0))
    batch = {
        "input_ids": ids,
        "position_ids": torch.cat((torch.arange(10), torch.arange(14)))[None],
        "cu_seqlens": torch.tensor([0, 10, 24], dtype=torch.int32),
        "max_seqlen": torch.tensor(14),
        "positions": torch.arange(23),
        "targets": torch.where(torch.arange(23) == 9, -100, ids[0, 1:]),
    }
    assert max(check_isolation(model, batch)) < 1e-4
    monkeypatch.setattr(attention, "_window", lambda *args: None)  # leaks nothing, and is another model
    with pytest.raises(ModelError, match=r"compute\.attention sdpa"):
        check_isolation(model, batch)


def test_prepare_sets_the_attention_that_was_asked_for():
    for name in ("varlen", "sdpa", "eager"):
        model = compute.prepare(tiny.make_model(), compute.ComputeConfig(attention=name), CPU, torch.float32)
        assert attention.implementation(model) == name
