"""Gradual unfreezing: every optimiser takes a block that is reached later, and the default suits any number of blocks."""

import pytest
import tiny
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from nlpft.training.optimizers import OPTIMIZERS, Numbers
from nlpft.tuning import gradual


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw", "rmsprop", "adagrad"])
def test_every_optimiser_takes_a_block_that_is_reached_later(name):
    model = gradual.apply(tiny.make_model(), gradual.Config())
    weights = list(model.parameters())
    optimizer = OPTIMIZERS[name]([{"params": weights}], Numbers(0.01))
    hold = gradual.hold(model, gradual.Config(), 8)
    before = [p.detach().clone() for p in weights]
    for step in range(1, 9):
        for weight in weights:
            weight.grad = torch.ones_like(weight)
        hold(step)
        optimizer.step()
    assert not any(torch.equal(a, b) for a, b in zip(before, weights, strict=True))


def test_the_default_reaches_the_embeddings_whatever_the_number_of_blocks():
    sizes = {"vocab_size": 50, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1}
    for count in (1, 10, 30):
        model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=count, **sizes))
        hold = gradual.hold(gradual.apply(model, gradual.Config()), gradual.Config(), 100)
        embeddings = model.get_input_embeddings().weight
        embeddings.grad = torch.ones_like(embeddings)
        hold(1)
        assert embeddings.grad is None
        embeddings.grad = torch.ones_like(embeddings)
        hold(100)
        assert embeddings.grad is not None
