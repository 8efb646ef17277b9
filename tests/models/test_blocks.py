"""How deep a parameter lies does not depend on what an architecture calls its parts."""

import tiny
import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM

from nlpft.models.blocks import depths


def test_depths_rise_from_the_embeddings_through_the_blocks_to_the_last_norm():
    found = depths(tiny.make_model())
    assert found["model.embed_tokens.weight"] == 0
    assert found["model.layers.0.mlp.up_proj.weight"] == 1
    assert found["model.layers.2.input_layernorm.weight"] == 3
    assert found["model.norm.weight"] == 4


def test_a_head_of_its_own_is_deepest_even_where_it_is_called_embed_out():
    model = GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=40, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
            tie_word_embeddings=False,
        )
    )  # fmt: skip
    found = depths(model)
    assert found["gpt_neox.embed_in.weight"] == 0
    assert {name for name, depth in found.items() if depth == 3} >= {"gpt_neox.final_layer_norm.weight"}
    assert next(depth for name, depth in found.items() if model.get_parameter(name) is head(model)) == 3


def test_position_embeddings_are_as_deep_as_the_tokens():
    found = depths(GPT2LMHeadModel(GPT2Config(vocab_size=40, n_positions=16, n_embd=16, n_layer=2, n_head=2)))
    assert found["transformer.wpe.weight"] == found["transformer.wte.weight"] == 0
    assert found["transformer.h.1.attn.c_attn.bias"] == 2


def head(model) -> torch.nn.Parameter:
    return model.get_output_embeddings().weight
