"""A model with a head gives a row the logits that it has alone: packed or padded, whatever stands beside it."""

import pytest
import tiny
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from nlpft.data.example_batch import batch_of
from nlpft.errors import ModelError
from nlpft.models import attention, head_forward
from nlpft.models.compute import ComputeConfig, prepare
from nlpft.types import Layout, Task

CPU = torch.device("cpu")
TASK = Task("single_label_classification", ("a", "b", "c"))
TAGS = Task("tagging", ("a", "b", "c"))
ROWS = [[2, 9, 14, 3], [2, 8, 3], [2, 11, 6, 7, 12, 15, 3]]
SMALL = {"vocab_size": 40, "num_labels": 3, "initializer_range": 0.3}
BERT = {**SMALL, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = {**vars(tiny.make_model().config), **SMALL, "pad_token_id": 0}


def llama(cls):
    config = tiny.make_model().config
    config.num_labels, config.pad_token_id, config.initializer_range = 3, 0, 0.3
    return cls(config)


MODELS = {
    "bert": lambda: BertForSequenceClassification(BertConfig(**BERT)),
    "bert tags": lambda: BertForTokenClassification(BertConfig(**BERT)),
    "roberta": lambda: RobertaForSequenceClassification(RobertaConfig(**BERT, pad_token_id=1)),
    "distilbert": lambda: DistilBertForSequenceClassification(
        DistilBertConfig(**SMALL, dim=32, hidden_dim=64, n_layers=2, n_heads=4)
    ),
    "llama": lambda: llama(LlamaForSequenceClassification),
    "llama tags": lambda: llama(LlamaForTokenClassification),
    "gpt2": lambda: GPT2ForSequenceClassification(
        GPT2Config(**SMALL, n_embd=32, n_layer=2, n_head=4, pad_token_id=0, bos_token_id=2, eos_token_id=3)
    ),
}


def made(name):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    model.task = TAGS if name.endswith("tags") else TASK
    return prepare(model, ComputeConfig(), CPU, torch.float32)


def alone(model, name):
    with attention.plain(model), torch.no_grad():
        return torch.cat([model(input_ids=torch.tensor([row])).logits.flatten(0, -2) for row in ROWS])


@pytest.mark.parametrize("name", MODELS)
def test_rows_of_a_batch_have_the_logits_they_have_alone(name):
    model = made(name)
    layout = head_forward.choose(model, batch_of)
    assert layout.packed == (name in ("bert", "bert tags", "roberta", "llama", "llama tags", "gpt2"))
    with torch.no_grad():
        found = head_forward.logits(model, batch_of(ROWS, layout))
    assert torch.allclose(found, alone(model, name), atol=1e-5)


def test_a_second_text_is_told_by_its_token_types():
    model = made("bert")
    layout = head_forward.choose(model, batch_of)
    types = [[0, 0, 1, 1], [0, 0, 0], [0, 0, 0, 0, 1, 1, 1]]
    with torch.no_grad():
        found = head_forward.logits(model, batch_of(ROWS, layout, pair_starts=[2, 0, 4]))
        model.set_attn_implementation("sdpa")
        own = [
            model(input_ids=torch.tensor([r]), token_type_ids=torch.tensor([t])).logits
            for r, t in zip(ROWS, types, strict=True)
        ]
    assert torch.allclose(found, torch.cat(own), atol=1e-5)
    assert not torch.allclose(found, alone(model, "bert"), atol=1e-2)


def test_gradients_of_a_pack_are_those_of_rows_alone():
    packed, single = made("bert"), made("bert")
    layout = head_forward.choose(packed, batch_of)
    head_forward.logits(packed, batch_of(ROWS, layout)).square().sum().backward()
    single.set_attn_implementation("sdpa")
    for row in ROWS:
        single(input_ids=torch.tensor([row])).logits.square().sum().backward()
    for (name, a), b in zip(packed.named_parameters(), single.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-4, rtol=1e-4), name


def test_a_model_whose_packs_leak_is_padded():
    model = made("bert")
    for layer in model.bert.encoder.layer:  # as an architecture that mixes all of its input does
        layer.register_forward_hook(lambda m, i, o: o + o.mean(1, keepdim=True))
    with pytest.raises(Exception, match="depend on the other texts"):
        head_forward.choose(model, batch_of)
    model = made("bert")
    model.bert.embeddings.register_forward_hook(
        lambda m, i, o: o.flip(1).cumsum(1).flip(1) if o.shape[0] == 1 and o.shape[1] > 14 else o
    )
    layout = head_forward.choose(model, batch_of)
    assert layout == Layout(False, "first", 0, 0, True)
    assert attention.implementation(model) == "sdpa"


def test_the_body_computes_as_before_once_a_batch_is_done():
    model = made("bert")
    layout = head_forward.choose(model, batch_of)
    head_forward.logits(model, batch_of(ROWS, layout))
    assert "forward" not in vars(model.base_model)


def test_masters_under_autocast_are_compared_as_what_they_are_multiplied_in(monkeypatch):
    """Whole weights train in float32 on a GPU, and are multiplied in bfloat16: seen there, logits 0.01 apart."""
    monkeypatch.setattr(head_forward, "distance", lambda one, other: 0.01)
    assert head_forward.choose(made("bert"), batch_of, torch.bfloat16).packed
    with pytest.raises(ModelError, match="depend on the other texts"):
        head_forward.choose(made("bert"), batch_of)
