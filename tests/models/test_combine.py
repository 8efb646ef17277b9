"""Several adapters as one: the update is the weighted sum where it is said to be, and nothing is left behind in silence."""

import json

import peft
import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM

from nlpft import cli
from nlpft.errors import ModelError
from nlpft.models import combine, streamed

IDS = torch.arange(3, 60)[None]


def save(folder, base, seed, rank=4, targets=("q_proj", "v_proj"), template_hash=None, **options):
    torch.manual_seed(seed)
    settings = peft.LoraConfig(r=rank, target_modules=list(targets), **options)
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data += torch.randn_like(weight) * 0.05
    model.save_pretrained(folder, save_embedding_layers=False)
    tiny.save_tokenizer(folder)
    if template_hash:
        (folder / "nlpft.json").write_text(json.dumps({"template_hash": template_hash}))
    return folder


@pytest.fixture
def two(tiny_folder, tmp_path):
    return [save(tmp_path / "a", tiny_folder, 1), save(tmp_path / "b", tiny_folder, 2, 8, ("q_proj", "up_proj"))]


@torch.no_grad()
def updated(base, adapters, weights):
    """Logits of the base with the weighted sum of the updates, by PEFT's own merging of one after the other."""
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    total = {name: torch.zeros_like(weight) for name, weight in before.items()}
    for adapter, weight in zip(adapters, weights, strict=True):
        one = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).merge_and_unload()
        for name, value in one.state_dict().items():
            total[name] += weight * (value - before[name])
    model.load_state_dict({name: value + total[name] for name, value in before.items()})
    return model(IDS).logits


@torch.no_grad()
def logits(base, folder):
    model = AutoModelForCausalLM.from_pretrained(base)
    return peft.PeftModel.from_pretrained(model, folder).eval()(IDS).logits


@pytest.mark.parametrize(("kind", "rank"), [("cat", None), ("svd", 12)])
@pytest.mark.parametrize("weights", [(0.7, 0.3), (1.0, -0.5)])
def test_cat_and_a_wide_svd_are_the_weighted_sum(two, tiny_folder, tmp_path, kind, rank, weights):
    done = combine.combine(list(map(str, two)), tmp_path / "out", combine.Settings(weights, kind, rank=rank))
    assert done.rank == 12
    assert done.off < 1e-5
    assert torch.allclose(logits(tiny_folder, tmp_path / "out"), updated(tiny_folder, two, weights), atol=1e-4)


def test_scales_that_are_not_rank_over_alpha_are_kept(tiny_folder, tmp_path):
    pair = [
        save(tmp_path / "a", tiny_folder, 1, use_rslora=True, lora_alpha=32),
        save(tmp_path / "b", tiny_folder, 2, alpha_pattern={"q_proj": 3}),
    ]
    combine.combine(list(map(str, pair)), tmp_path / "out", combine.Settings((0.5, 0.5)))
    assert torch.allclose(logits(tiny_folder, tmp_path / "out"), updated(tiny_folder, pair, (0.5, 0.5)), atol=1e-4)


def test_a_sum_of_factors_says_how_far_off_it_is(tiny_folder, tmp_path):
    pair = [save(tmp_path / name, tiny_folder, seed) for seed, name in enumerate("ab")]
    done = combine.combine(list(map(str, pair)), tmp_path / "out", combine.Settings((0.5, 0.5), "linear"))
    assert done.rank == 4
    assert 0.1 < done.off < 1.5


@pytest.mark.parametrize("kind", ["ties", "dare_ties", "magnitude_prune", "ties_svd", "dare_linear_svd"])
def test_what_prunes_and_draws_repeats_with_its_seed(tiny_folder, tmp_path, kind):
    pair = [save(tmp_path / name, tiny_folder, seed) for seed, name in enumerate("ab")]

    def made(folder, seed):
        settings = combine.Settings((0.7, 0.3), kind, density=0.5, seed=seed)
        combine.combine(list(map(str, pair)), tmp_path / folder, settings)
        return logits(tiny_folder, tmp_path / folder)

    assert torch.equal(made("one", 0), made("two", 0))
    assert torch.equal(made("three", 1), made("four", 0)) == ("dare" not in kind)


def test_the_bases_weights_are_not_read(two, tmp_path, monkeypatch):
    def refuse(source, name):
        raise AssertionError(f"{name} was read")

    monkeypatch.setattr(streamed.Source, "read", refuse)
    combine.combine(list(map(str, two)), tmp_path / "out", combine.Settings((0.7, 0.3)))


def test_a_base_that_cannot_be_streamed_gives_the_same(two, tiny_folder, tmp_path, monkeypatch):
    combine.combine(list(map(str, two)), tmp_path / "one", combine.Settings((0.7, 0.3)))

    def refuse(folder):
        raise streamed.Unstreamable("odd")

    monkeypatch.setattr(streamed, "skeleton", refuse)
    combine.combine(list(map(str, two)), tmp_path / "two", combine.Settings((0.7, 0.3)))
    assert torch.equal(logits(tiny_folder, tmp_path / "one"), logits(tiny_folder, tmp_path / "two"))


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"use_dora": True}, "use_dora True"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "lora_only"}, "bias lora_only"),
        ({"template_hash": "other"}, "another chat template"),
    ],
)
def test_what_would_be_left_behind_is_refused(tiny_folder, tmp_path, second, said):
    pair = [save(tmp_path / "a", tiny_folder, 1, template_hash="one"), save(tmp_path / "b", tiny_folder, 2, **second)]
    with pytest.raises(ModelError, match=said):
        combine.combine(list(map(str, pair)), tmp_path / "out", combine.Settings((0.5, 0.5)))
    assert not (tmp_path / "out").exists()


def test_adapters_of_two_bases_are_refused(tiny_folder, tmp_path):
    other = tiny.save_model(tmp_path / "other")
    pair = [save(tmp_path / "a", tiny_folder, 1), save(tmp_path / "b", other, 2)]
    with pytest.raises(ModelError, match="only adapters of one base"):
        combine.combine(list(map(str, pair)), tmp_path / "out", combine.Settings((0.5, 0.5)))


def test_the_command_writes_an_adapter_or_whole_weights(two, tiny_folder, tmp_path, capsys):
    words = ["merge", *map(str, two), "--weights", "0.7", "0.3"]
    assert cli.main([*words, "--to", "adapter", "-o", str(tmp_path / "adapter")]) == 0
    assert "cat, rank 12" in capsys.readouterr().out
    assert cli.main([*words, "-o", str(tmp_path / "whole")]) == 0
    expected = updated(tiny_folder, two, (0.7, 0.3))
    with torch.no_grad():
        whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole").eval()(IDS).logits
    assert torch.allclose(whole, expected, atol=1e-4)
    assert torch.allclose(logits(tiny_folder, tmp_path / "adapter"), expected, atol=1e-4)
    facts = json.loads((tmp_path / "whole" / "nlpft.json").read_text())
    assert facts["combined_from"] == dict(zip(map(str, two), (0.7, 0.3), strict=True))
    assert "merged_from" not in facts


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--weights", "1"], "1 for 2 adapters"),
        (["--weights", "1", "1", "--combination", "ties"], "--density 0.5"),
        (["--weights", "1", "1", "--density", "0.5"], "leave it out"),
        (["--weights", "1", "1", "--combination", "ties", "--density", "1.5"], "a share"),
        (["--weights", "1", "1", "--rank", "4"], "end in svd"),
        (["--weights", "1", "1", "--combination", "linear"], "cat and svd take adapters of any rank"),
    ],
)
def test_settings_that_do_not_fit_are_refused(two, tmp_path, capsys, words, said):
    assert cli.main(["merge", *map(str, two), "-o", str(tmp_path / "out"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_one_adapter_has_nothing_to_be_combined_with(two, tmp_path, capsys):
    for words in (["--to", "adapter"], ["--weights", "0.5"]):
        assert cli.main(["merge", str(two[0]), "-o", str(tmp_path / "out"), *words]) == 2
        assert "several" in capsys.readouterr().err
