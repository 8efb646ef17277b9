"""How a model computes changes nothing of what it computes: folded adapters, compiled blocks, activations computed again."""

import os

import numpy as np
import pyarrow as pa
import pytest
import tiny
import torch

from nlpft.data.columns import lists
from nlpft.data.loader import PackedData
from nlpft.errors import ConfigError
from nlpft.models import adapters, compute
from nlpft.models.forward import check_isolation, loss
from nlpft.training.loop import to_device
from nlpft.training.optim import trainable_in_float32
from nlpft.tuning import full, lora

CPU = torch.device("cpu")
PLAIN = compute.ComputeConfig(attention="sdpa", compile=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    draw = np.random.default_rng(0)
    lengths = draw.integers(5, 60, 40)
    rows = lists(draw.integers(0, 400, lengths.sum()), np.concatenate(([0], np.cumsum(lengths))))
    table = pa.table({"input_ids": rows, "labels": rows})
    return PackedData(tmp_path_factory.mktemp("none"), 128, static_shapes=True, table=table)


def adapted(**settings):
    """A tiny model with an adapter that does something."""
    model = lora.apply(tiny.make_model(), lora.Config(rank=4, **settings))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return model


def batches(data, count=4):
    return list(data.micro_batches(data.packs(0, 0)[:count], 1, share()))


def share():
    from nlpft.data.loader import Share

    return Share()


def gradient(model, some):
    """Sum of losses and the gradient of all weights that train, as one vector."""
    torch.manual_seed(7)
    total = torch.zeros((), device=next(model.parameters()).device)
    for batch in some:
        value = loss(model, batch)
        value.backward()
        total += value.detach()
    return total, torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


def assert_same(one, other):
    torch.testing.assert_close(one[0], other[0], rtol=1e-5, atol=0)
    assert (one[1] - other[1]).norm() < 1e-4 * other[1].norm()


@pytest.mark.parametrize("settings", [{}, {"dropout": 0.3}, {"alpha": 7.0}])
def test_folding_an_adapter_changes_nothing(data, settings):
    torch.manual_seed(1)
    plain = adapted(**settings).train()
    torch.manual_seed(1)
    folded = adapters.fold(adapted(**settings)).train()
    assert any("forward" in vars(module) for module in folded.modules())
    assert_same(gradient(folded, batches(data)), gradient(plain, batches(data)))


def test_a_folded_adapter_can_be_switched_off_and_merged(data):
    model, batch = adapters.fold(adapted()).eval(), batches(data)[0]
    with torch.no_grad():
        on = loss(model, batch)
        with model.disable_adapter():
            torch.testing.assert_close(loss(model, batch), loss(tiny.make_model(), batch))
        assert (on - loss(tiny.make_model(), batch)).abs() > 1
        torch.testing.assert_close(loss(model.merge_and_unload(), batch), on, rtol=1e-4, atol=0)


def test_layers_of_one_input_share_its_product_unless_dropout_draws_for_each(data, monkeypatch):
    shapes = []
    linear = adapters.F.linear
    monkeypatch.setattr(adapters.F, "linear", lambda x, w, *b: shapes.append(tuple(w.shape)) or linear(x, w, *b))
    for dropout, expected in ((0.0, [(12, 32), (4, 32), (8, 32), (4, 64)]), (0.3, [(4, 32)] * 6 + [(4, 64)])):
        shapes.clear()
        loss(adapters.fold(adapted(dropout=dropout)).train(), batches(data)[0])
        assert [s for s in shapes if s[1] in (32, 64) and s[0] in (4, 8, 12)] == expected * 3


@pytest.mark.parametrize("off", ["k_proj", "q_proj", "v_proj"])
def test_a_layer_that_is_switched_off_shares_nothing_with_its_siblings(data, off):
    models = adapted().eval(), adapters.fold(adapted()).eval()
    for model in models:
        for name, module in model.named_modules():
            if name.endswith(off):
                module.enable_adapters(False)
    one, other = (loss(model, batches(data)[0]) for model in models)
    torch.testing.assert_close(one, other, rtol=1e-5, atol=0)
    assert all(shared.x is None for shared in sharing(models[1]))


def sharing(model):
    return [vars(m)["nlpft_shared"][0] for m in model.modules() if "nlpft_shared" in vars(m)]


def test_nothing_of_a_step_is_held_after_it(data):
    model = adapters.fold(adapted()).train()
    loss(model, batches(data)[0])
    assert len(sharing(model)) == 5 * 3
    assert all(shared.x is None and shared.inner == () for shared in sharing(model))


def test_siblings_of_other_inputs_compute_as_if_alone():
    plain, folded = (m.base_model.model.model.layers[0].self_attn for m in (adapted(), adapters.fold(adapted())))
    for name in ("q_proj", "k_proj", "v_proj"):
        x = torch.randn(5, 32)
        torch.testing.assert_close(getattr(folded, name)(x), getattr(plain, name)(x))


def test_variants_of_lora_keep_pefts_arithmetic():
    from peft import LoraConfig, get_peft_model

    for more in ({"use_dora": True}, {"lora_bias": True}):
        model = adapters.fold(get_peft_model(tiny.make_model(), LoraConfig(target_modules=["q_proj"], **more)))
        assert not any("forward" in vars(module) for module in model.modules() if hasattr(module, "lora_A"))


@pytest.fixture
def uncompiled(monkeypatch):
    """Dynamo's and autograd's halves of compilation, without code generation, which takes half a minute on a CPU."""
    torch._dynamo.reset()
    compile_ = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **k: compile_(self, backend="aot_eager", **k))
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("keep", [1.0, 0.3])
@pytest.mark.parametrize("make", [adapted, lambda: full.apply(tiny.make_model(), full.Config())])
def test_compiled_blocks_compute_the_same_and_are_compiled_once(data, make, keep):
    expected = gradient(compute.prepare(make(), PLAIN, CPU, torch.float32), batches(data))
    config = compute.ComputeConfig(compile=True, keep_activations=keep)
    model = compute.prepare(make(), config, CPU, torch.float32)
    check_isolation(model, data.probe(400, 1))
    before = compute.compilations()
    assert before > 0
    assert_same(gradient(model, batches(data)), expected)
    assert compute.compilations() == before


def test_activations_computed_again_change_nothing(data):
    expected = gradient(compute.prepare(adapted(), PLAIN, CPU, torch.float32).train(), batches(data))
    config = compute.ComputeConfig(attention="sdpa", compile=False, keep_activations=0.4)
    model = compute.prepare(adapted(), config, CPU, torch.float32).train()
    stack = compute.blocks(model)
    assert [block.gradient_checkpointing for block in stack] == [True, True, False]
    assert_same(gradient(model, batches(data)), expected)


@pytest.fixture
def process_as_before(monkeypatch):
    import torch._inductor.config as compiler

    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    monkeypatch.setattr(compiler, "deterministic", False)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    yield compiler
    torch.use_deterministic_algorithms(before[0])
    torch.utils.deterministic.fill_uninitialized_memory = before[1]


def test_determinism_reaches_torch_cublas_and_the_compiler(process_as_before):
    compute.prepare(adapted(), compute.ComputeConfig(attention="sdpa", compile=False), CPU, torch.float32)
    assert not torch.are_deterministic_algorithms_enabled()
    compute.prepare(adapted(), compute.ComputeConfig(deterministic=True, compile=False), CPU, torch.float32)
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert process_as_before.deterministic


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.usefixtures("process_as_before")
@pytest.mark.parametrize("make", [adapted, lambda: full.apply(tiny.make_model(), full.Config())])
def test_deterministic_gradients_are_equal_bit_for_bit(data, make):
    device = torch.device("cuda")
    model = trainable_in_float32(make().bfloat16().to(device))
    model = compute.prepare(model, compute.ComputeConfig(deterministic=True), device, torch.bfloat16).train()
    some = [to_device(batch, device) for batch in batches(data)]
    found = []
    for _ in range(3):
        model.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            found.append(gradient(model, some)[1])
    assert found[0].equal(found[1])
    assert found[0].equal(found[2])


def test_a_share_is_a_share():
    with pytest.raises(ConfigError, match=r"compute\.keep_activations 1\.5"):
        compute.check(compute.ComputeConfig(keep_activations=1.5))


def test_what_is_added_to_the_embeddings_keeps_their_type():
    model = trainable_in_float32(full.apply(tiny.make_model().bfloat16(), full.Config()))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    seen = []
    for block in model.model.layers:
        block.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model(input_ids=torch.arange(8)[None])
    assert set(seen) == {torch.bfloat16}
