"""LoRA and its relatives: scales, starts and magnitudes as their papers say, and errors that name what does not fit."""

import pytest
import steps
import tiny
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from nlpft.errors import ConfigError
from nlpft.models import adapters
from nlpft.plugins import load
from nlpft.training.optim import OptimConfig, build_optimizer

LORA, DORA = load("tuning", "lora"), load("tuning", "dora")


def first(model):
    return model.base_model.model.model.layers[0].self_attn.q_proj


@pytest.mark.parametrize(("rslora", "scale"), [(False, 8 / 4), (True, 8 / 2)])
def test_rslora_scales_by_the_root_of_the_rank(rslora, scale):
    model = LORA.apply(tiny.make_model(), LORA.Config(rank=4, alpha=8, rslora=rslora))
    assert first(model).scaling["default"] == scale


def test_pissa_takes_the_largest_singular_values_out_of_the_weight():
    weight = tiny.make_model().model.layers[0].self_attn.q_proj.weight.detach()
    module = first(LORA.apply(tiny.make_model(), LORA.Config(rank=4, init="pissa")))
    update = module.get_delta_weight("default").detach()
    torch.testing.assert_close(torch.linalg.svdvals(update)[:4], torch.linalg.svdvals(weight)[:4])
    torch.testing.assert_close(module.base_layer.weight + update, weight, rtol=0, atol=1e-6)


def test_an_adapter_from_pissa_is_saved_as_plain_lora_of_twice_the_rank(tmp_path):
    model = LORA.apply(tiny.make_model(), LORA.Config(rank=4, init="pissa"))
    model.save_pretrained(tmp_path)
    saved = (tmp_path / "adapter_config.json").read_text()
    assert '"r": 8' in saved
    assert "pissa" not in saved


def test_doras_magnitude_begins_as_the_norms_of_the_weight_and_trains():
    model = DORA.apply(tiny.make_model(), DORA.Config(rank=4))
    magnitude = first(model).lora_magnitude_vector["default"].weight
    torch.testing.assert_close(magnitude.detach(), first(model).base_layer.weight.norm(dim=1))
    before = magnitude.detach().clone()
    steps.train(model, build_optimizer(model, OptimConfig()), 2)
    assert not torch.equal(magnitude, before)


def test_folding_changes_no_output_of_dora_and_serves_plain_adapters():
    for method, folded in ((DORA, False), (LORA, True)):
        model = method.apply(tiny.make_model(), method.Config(rank=4))
        steps.train(model, build_optimizer(model, OptimConfig()), 2)
        ids = torch.arange(9)[None]
        expected = model.eval()(input_ids=ids).logits
        adapters.fold(model)
        assert ("forward" in vars(first(model))) == folded
        torch.testing.assert_close(model(input_ids=ids).logits, expected)


@pytest.mark.parametrize("method", [LORA, DORA])
@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"rank": 0}, "tuning.rank 0"),
        ({"rank": 17}, r"rank 17: model\.layers\.0\.self_attn\.k_proj is a matrix of 16 x 32, whose rank is 16"),
        ({"rank": 33, "targets": ("mlp.up_proj",)}, r"up_proj is a matrix of 64 x 32, whose rank is 32"),
        ({"dropout": 1.0}, "tuning.dropout 1.0"),
        ({"lr_ratio": 0.0}, "tuning.lr_ratio 0.0"),
        ({"targets": ("q_proj", "w_proj")}, r"tuning\.targets w_proj: .*down_proj.*q_proj"),
    ],
)
def test_what_does_not_fit_the_model_is_named(method, settings, named):
    with pytest.raises(ConfigError, match=named):
        method.apply(tiny.make_model(), method.Config(**{"rank": 4, **settings}))


def test_a_rank_may_be_as_large_as_the_matrices_that_are_targeted():
    LORA.apply(tiny.make_model(), LORA.Config(rank=32, targets=("q_proj", "up_proj")))


def test_all_linear_leaves_the_head_out_whatever_blocks_are_called():
    config = GPT2Config(vocab_size=12, n_positions=16, n_embd=16, n_layer=2, n_head=2)
    model = LORA.apply(GPT2LMHeadModel(config), LORA.Config(rank=16))  # the head and the embeddings have rank 12
    names = {name.split(".lora_")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert len(names) == 8
    assert not any("lm_head" in name for name in names)
    with pytest.raises(ConfigError, match="c_attn is a matrix"):
        LORA.apply(GPT2LMHeadModel(config), LORA.Config(rank=17))
