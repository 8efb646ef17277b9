"""Heads: of the right size, begun as asked, always training, and read back with the weights they were saved with."""

import pytest
import tiny_heads
import torch
from torch import nn

from nlpft import plugins
from nlpft.errors import ConfigError, ModelError
from nlpft.models import heads
from nlpft.models.heads import HeadConfig
from nlpft.models.load import load_tokenizer, save_model
from nlpft.training import groups
from nlpft.types import Task

THREE = Task("single_label_classification", ("a", "b", "c"))
METHODS = ("full", "freeze", "head_only", "bitfit", "gradual", "lora", "dora")


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_heads.save_bert(tmp_path_factory.mktemp("bert"))


@pytest.mark.parametrize("task", [THREE, tiny_heads.TAGS, Task("regression")])
def test_a_head_has_an_output_for_each_label_and_names_them(task, bert):
    model = heads.new_head(str(bert), "float32", task)
    assert model.classifier.out_features == task.outputs
    assert tuple(model.config.id2label.values()) == (task.labels or ("value",))
    assert {"classifier.weight", "classifier.bias"} <= model.head_parameters


def test_what_a_checkpoint_lacks_belongs_to_the_head(bert):
    # A masked LM has no pooler.
    model = heads.new_head(str(bert), "float32", THREE)
    assert "bert.pooler.dense.weight" in model.head_parameters
    assert "bert.encoder.layer.0.attention.self.query.weight" not in model.head_parameters


@pytest.mark.parametrize(("init", "bound"), [("xavier", (6 / (32 + 3)) ** 0.5), ("he", (6 / 32) ** 0.5)])
def test_a_new_head_begins_as_asked(init, bound, bert):
    torch.manual_seed(0)
    weight = heads.new_head(str(bert), "float32", THREE, HeadConfig(init=init)).classifier.weight
    assert 0.8 * bound < weight.abs().max() <= bound


def test_a_head_of_other_labels_begins_anew_and_one_of_the_same_stays(tmp_path, bert):
    first = heads.new_head(str(bert), "float32", THREE)
    save_model(first, tmp_path / "kept", load_tokenizer(str(bert)), heads.facts(THREE))
    same = heads.new_head(str(tmp_path / "kept"), "float32", THREE)
    other = heads.new_head(str(tmp_path / "kept"), "float32", THREE._replace(labels=("a", "b", "d")))
    assert torch.equal(same.classifier.weight, first.classifier.weight)
    assert not torch.equal(other.classifier.weight, first.classifier.weight)
    assert torch.equal(other.bert.pooler.dense.weight, first.bert.pooler.dense.weight)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", [THREE, tiny_heads.TAGS], ids=["classify", "tag"])
def test_the_head_trains_with_every_method_at_its_own_rate(method, task, bert):
    module = plugins.load("tuning", method)
    config = module.Config(rank=4) if method in ("lora", "dora") else module.Config()
    model = heads.train_head(module.apply(heads.new_head(str(bert), "float32", task), config))
    rates = heads.rate_factors(model, HeadConfig())
    found = groups.parameter_groups(model, factors=rates)
    head = [p for g in found if g["scale"] == 10 for p in g["params"]]
    names = {name for name, p in model.named_parameters() if any(p is x for x in head)}
    assert {heads.with_head(model).head_parameters} == {
        frozenset(n.replace(".modules_to_save.default", "").removeprefix("base_model.model.") for n in names)
    }
    body = sum(p.requires_grad for n, p in model.named_parameters() if not heads.in_head(model, n))
    assert (body == 0) == (method == "head_only")


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_saved_head_gives_the_same_logits(method, tmp_path, bert):
    module = plugins.load("tuning", method)
    config = module.Config(rank=4) if method == "lora" else module.Config()
    model = heads.train_head(module.apply(heads.new_head(str(bert), "float32", THREE), config))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight) * weight.requires_grad)
    save_model(model.eval(), tmp_path / "saved", load_tokenizer(str(bert)), heads.facts(THREE))
    again = heads.trained_head(str(tmp_path / "saved"), "float32").eval()
    ids = torch.tensor([[2, 5, 7, 3]])
    assert torch.allclose(again(input_ids=ids).logits, model(input_ids=ids).logits, atol=1e-6)
    assert heads.task_of(again).labels == ("a", "b", "c")


def test_dropout_before_the_head_is_set_or_refused(bert, tiny_folder):
    model = heads.new_head(str(bert), "float32", THREE, HeadConfig(dropout=0.3))
    assert isinstance(model.dropout, nn.Dropout)
    assert model.dropout.p == 0.3
    with pytest.raises(ConfigError, match=r"head\.dropout 0\.3: LlamaForSequenceClassification has none"):
        heads.new_head(str(tiny_folder), "float32", THREE, HeadConfig(dropout=0.3))


def test_a_folder_without_a_trained_head_is_refused(bert):
    with pytest.raises(ModelError, match="no model with a head that nlpft"):
        heads.trained_head(str(bert))
