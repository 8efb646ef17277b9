"""Adapters are what they seem to be: on their own base, with their own template, active, and their files whole."""

import pytest
import tiny
import torch
from adapters import save_adapter
from transformers import AutoModelForCausalLM

from nlpft.errors import ConfigError, ModelError
from nlpft.evaluation import subjects
from nlpft.templates import alpaca, chatml


@pytest.fixture
def adapter(tmp_path, tiny_folder):
    return save_adapter(tmp_path / "mine", tiny_folder, 0.5)


@pytest.mark.parametrize(("strength", "nothing"), [(0.0, True), (0.5, False)])
def test_an_adapter_that_changes_nothing_is_found_out(tmp_path, tiny_folder, strength, nothing):
    folder = save_adapter(tmp_path / "a", tiny_folder, strength)
    (subject,) = subjects.adapters([str(folder)], str(tiny_folder))
    model = subjects.put_on(AutoModelForCausalLM.from_pretrained(tiny_folder), subject)
    assert subjects.inactive(model) is nothing


def test_the_base_comes_back_as_it_was(adapter, tiny_folder):
    base = AutoModelForCausalLM.from_pretrained(tiny_folder).eval()
    before = {name: weight.clone() for name, weight in base.state_dict().items()}
    ids = torch.arange(20)[None]
    alone = base(ids).logits
    model = subjects.put_on(base, subjects.adapters([str(adapter)], str(tiny_folder))[0])
    assert not torch.equal(model(ids).logits, alone)
    base = model.unload()
    assert torch.equal(base(ids).logits, alone)
    assert base.state_dict().keys() == before.keys()


def test_an_adapter_of_another_base_is_refused_unless_forced(adapter, tmp_path, tiny_folder):
    other = tiny.save_model(tmp_path / "other")
    with pytest.raises(ModelError, match=f"was trained on {tiny_folder}, not on {other}"):
        subjects.adapters([str(adapter)], str(other))
    assert subjects.adapters([str(adapter)], str(other), force=True)[0].label == "mine"


def test_a_whole_model_is_no_adapter(tiny_folder):
    with pytest.raises(ConfigError, match="holds no adapter but a whole model"):
        subjects.adapters([str(tiny_folder)], str(tiny_folder))


def test_a_broken_file_of_weights_is_named(adapter, tiny_folder):
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors: broken"):
        subjects.adapters([str(adapter)], str(tiny_folder))


def test_labels_differ(adapter, tmp_path, tiny_folder):
    again = save_adapter(tmp_path / "else" / "mine" / "model", tiny_folder, 0.5)
    base = save_adapter(tmp_path / "base", tiny_folder, 0.5)
    found = subjects.adapters([str(adapter), str(again), str(base)], str(tiny_folder))
    assert [s.label for s in found] == ["mine", "mine-2", "base-2"]


def test_another_template_is_refused_with_the_difference_unless_forced(adapter):
    subjects.check_template(adapter, chatml.CHAT_TEMPLATE, force=False)
    with pytest.raises(ConfigError, match="another chat template") as error:
        subjects.check_template(adapter, alpaca.CHAT_TEMPLATE, force=False)
    assert "  -" in str(error.value)
    assert "  +" in str(error.value)
    subjects.check_template(adapter, alpaca.CHAT_TEMPLATE, force=True)


def test_answers_of_other_weights_are_not_taken(adapter, tiny_folder, tmp_path):
    before = subjects.fingerprint([tiny_folder, adapter], "float32")
    assert subjects.fingerprint([tiny_folder, adapter], "float32") == before
    assert subjects.fingerprint([tiny_folder, adapter], "bfloat16") != before
    other = save_adapter(tmp_path / "other", tiny_folder, 0.1)
    assert subjects.fingerprint([tiny_folder, other], "float32") != before
