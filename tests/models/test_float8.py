"""Float8 products: those of the weights as cast, for every row by itself; refused where there are none."""

import pytest
import tiny
import torch
from torch import nn

from nlpft.errors import ConfigError
from nlpft.models import adapters, compute, float8
from nlpft.models.blocks import blocks
from nlpft.models.forward import distance
from nlpft.tuning import lora

CPU = torch.device("cpu")


def frozen(bias=False):
    """A linear layer whose rows differ by a factor of a thousand in size, and the weight that it has in float8."""
    torch.manual_seed(0)
    layer = nn.Linear(64, 32, bias=bias).requires_grad_(False)
    layer.weight.mul_(torch.logspace(-2, 1, 32)[:, None])
    rows, scale = float8.cast(layer.weight)
    float8.freeze(layer, CPU)
    return layer, rows.float() * scale


def as_cast(x):
    rows, scale = float8.cast(x)
    return rows.float() * scale


def test_what_is_cast_is_within_a_sixteenth_whatever_its_size():
    sizes = torch.tensor([1e-20, 1e-3, 1, 7, 448, 1e20])
    x = torch.randn(6, 256, generator=torch.Generator().manual_seed(0)) * sizes[:, None]
    off = (as_cast(x) - x).abs() / x.abs().maximum(x.abs().amax(1, keepdim=True) / 4096)
    assert 1e-3 < off.max() <= 1 / 16


def test_scales_are_powers_of_two_and_nothing_overflows():
    x = torch.tensor([[1.0, 0.0], [255.9, -3.0], [256.0, 1.0], [0.0, 0.0], [-3e38, 1.0]])
    rows, scale = float8.cast(x)
    assert rows.float().isfinite().all()
    assert rows.float().abs().max() <= 256
    assert (torch.frexp(scale).mantissa == 0.5).all()
    assert as_cast(x)[3].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(bad):
    layer, _ = frozen()
    x = torch.ones(16, 64)
    x[3, 5] = bad
    assert layer(x).isfinite().all(1).logical_not().nonzero().tolist() == [[3]]


@pytest.mark.parametrize("bias", [False, True])
def test_value_and_gradient_are_those_of_the_weight_as_cast(bias):
    layer, weight = frozen(bias)
    x = torch.randn(2, 8, 64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    expected = nn.functional.linear(as_cast(x.detach().flatten(0, 1)), weight, layer.bias).view(2, 8, 32)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
    upstream = torch.randn(2, 8, 32, generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad(layer(x), x, upstream)
    exact = (upstream.double() @ weight.double()).float()
    assert 1e-4 < distance(gradient, exact) < 0.05


def test_a_row_notices_nothing_of_the_others():
    layer, _ = frozen()
    x = torch.randn(16, 64, generator=torch.Generator().manual_seed(1))
    louder = torch.cat((x[:8], 1000 * x[8:]))
    torch.testing.assert_close(layer(louder)[:8], layer(x)[:8], rtol=0, atol=0)


def adapted(**settings):
    return adapters.fold(lora.apply(tiny.make_model(), lora.Config(rank=16, **settings)))


def in_float8(model):
    return [name for name, weight in model.named_parameters() if weight.dtype == float8.KIND]


@pytest.mark.parametrize("targets", [("all-linear",), ("q_proj",)])
def test_the_frozen_weights_of_blocks_are_cast_and_no_others(targets):
    model = float8.convert(adapted(targets=targets), CPU)
    assert len(in_float8(model)) == 2 * 7 * 3
    kept = [name for name, p in model.named_parameters() if p.dtype == torch.float32 and "scale" not in name]
    assert {name.split(".")[-2] for name in kept if "norm" not in name and "lora" not in name} == {"embed_tokens"}
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)


def test_a_base_whose_weight_is_read_stays():
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(target_modules=["q_proj"], use_dora=True)
    model = float8.convert(adapters.fold(get_peft_model(tiny.make_model(), settings)), CPU)
    assert not any("q_proj" in name for name in in_float8(model))
    assert any("k_proj" in name for name in in_float8(model))


def test_an_adapter_is_saved_and_trained_as_ever():
    from peft import get_peft_model_state_dict

    plain, cast = adapted(), float8.convert(adapted(), CPU)
    assert get_peft_model_state_dict(cast).keys() == get_peft_model_state_dict(plain).keys()
    ids = torch.arange(32)[None]
    for model in (plain, cast):
        model(input_ids=ids, labels=ids).loss.backward()
    gradients = [torch.cat([p.grad.flatten() for p in m.parameters() if p.requires_grad]) for m in (plain, cast)]
    assert 1e-4 < distance(gradients[1], gradients[0]) < 0.15


def test_a_device_without_float8_is_refused():
    with pytest.raises(ConfigError, match=r"compute\.float8: cpu of this machine has no float8"):
        compute.prepare(tiny.make_model(), compute.ComputeConfig(float8=True), CPU, torch.float32)


def test_whole_weights_want_torchao(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchao.float8", None)
    with pytest.raises(ConfigError, match=r"nlpft\[float8\]"):
        float8.convert(tiny.make_model(), CPU)


def test_whole_weights_are_torchaos_but_for_the_head():
    pytest.importorskip("torchao.float8")
    model = float8.convert(tiny.make_model(), CPU)
    names = {type(m).__name__ for m in blocks(model).modules() if isinstance(m, nn.Linear)}
    assert names == {"Float8Linear"}
    assert type(model.lm_head) is nn.Linear
    assert model.state_dict().keys() == tiny.make_model().state_dict().keys()


def test_a_model_says_whether_it_multiplies_in_float8():
    assert not float8.multiplies(adapted())
    assert float8.multiplies(float8.convert(adapted(), CPU))
    pytest.importorskip("torchao.float8")
    assert float8.multiplies(float8.convert(tiny.make_model(), CPU))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_compiled_products_are_those_of_eager_where_the_largest_is_near_a_power_of_two():
    layer = nn.Linear(4096, 1024, bias=False, device="cuda", dtype=torch.bfloat16).requires_grad_(False)
    float8.freeze(layer, torch.device("cuda"))
    x = torch.randn(4096, 4096, device="cuda")  # whose largest are about 4

    def score(x):
        return layer(nn.functional.rms_norm(x, (4096,)).bfloat16())

    assert distance(torch.compile(score)(x), score(x)) < 0.01
