"""How deep a parameter lies does not depend on what an architecture calls its parts."""

import tiny
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from nlpft.models.blocks import depths


def test_depths_rise_from_the_embeddings_through_the_blocks_to_the_last_norm():
    found = depths(tiny.make_model())
    assert found["model.embed_tokens.weight"] == 0
    assert found["model.layers.0.mlp.up_proj.weight"] == 1
    assert found["model.layers.2.input_layernorm.weight"] == 3
    assert found["model.norm.weight"] == 4


class Small(nn.Module):
    """Two blocks between embeddings and a head that is called as GPT-NeoX called its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_in, self.layers = nn.Embedding(5, 2), nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        self.embed_norm, self.embed_out = nn.LayerNorm(2), nn.Linear(2, 5, bias=False)

    def get_output_embeddings(self) -> nn.Linear:
        return self.embed_out


def test_a_head_of_its_own_is_deepest_even_where_it_is_called_embed_out():
    found = depths(Small())
    assert found["embed_out.weight"] == 3
    assert found["embed_in.weight"] == found["embed_norm.bias"] == 0


def test_position_embeddings_are_as_deep_as_the_tokens():
    found = depths(GPT2LMHeadModel(GPT2Config(vocab_size=40, n_positions=16, n_embd=16, n_layer=2, n_head=2)))
    assert found["transformer.wpe.weight"] == found["transformer.wte.weight"] == 0
    assert found["transformer.h.1.attn.c_attn.bias"] == 2
