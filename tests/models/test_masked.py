"""Encoders on packed rows: each row is alone in its pack, in every attention, and what is not is found."""

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import (
    BertConfig,
    BertForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from nlpft.errors import ConfigError, ModelError
from nlpft.models import attention, kinds, masked
from nlpft.models.forward import distance

SIZES = {"vocab_size": 60, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
ROWS = [[3, 14, 15, 9, 26], [5, 35], [8, 9, 7, 9, 32, 38, 46]]


def bert(**more):
    torch.manual_seed(0)
    return BertForMaskedLM(BertConfig(max_position_embeddings=64, initializer_range=0.5, **SIZES, **more)).eval()


def roberta():
    torch.manual_seed(0)
    return RobertaForMaskedLM(
        RobertaConfig(max_position_embeddings=66, pad_token_id=1, initializer_range=0.5, **SIZES)
    ).eval()


def pack(rows=ROWS) -> dict:
    """Rows in one sequence, all positions targets."""
    ids = torch.tensor([[token for row in rows for token in row]])
    places = torch.tensor([[place for row in rows for place in range(len(row))]])
    bounds = torch.tensor([0, *torch.tensor([len(row) for row in rows]).cumsum(0).tolist()], dtype=torch.int32)
    positions = torch.arange(ids.shape[1])
    return {"input_ids": ids, "position_ids": places, "cu_seqlens": bounds, "positions": positions, "targets": ids[0]}


@pytest.mark.parametrize("name", ["varlen", "sdpa", "eager"])
@pytest.mark.parametrize("make", [bert, roberta])
def test_packed_rows_have_the_logits_that_each_has_alone(make, name):
    model = make()
    model.set_attn_implementation(name)
    batch = pack()
    packed = masked.forward(model, batch, batch["positions"])
    model.set_attn_implementation("sdpa")
    alone = torch.cat([model(input_ids=torch.tensor([row])).logits[0] for row in ROWS])
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-5)
    masked.check_isolation(model, batch)


def test_only_asked_positions_reach_the_head():
    model, batch, seen = bert(), pack(), []
    model.cls.register_forward_hook(lambda module, args, output: seen.append(args[0].shape))
    some = masked.forward(model, batch, torch.tensor([1, 6, 9]))
    assert seen == [(1, 3, 32)]
    torch.testing.assert_close(some, masked.forward(model, batch, batch["positions"])[[1, 6, 9]])
    assert model(input_ids=torch.tensor(ROWS[:1])).logits.shape == (1, 5, 60)  # afterwards the model is as it was


def test_a_leak_is_found(monkeypatch):
    model = bert()
    monkeypatch.setattr(masked, "block_mask", lambda position_ids, inner: None)
    with pytest.raises(ModelError, match="leak into each other"):
        masked.check_isolation(model, pack())


def test_positions_counted_in_another_way_are_found(monkeypatch):
    monkeypatch.setattr(masked, "first_position", lambda inner: 0)
    with pytest.raises(ModelError, match="counts positions in another way"):
        masked.check_isolation(roberta(), pack())


def test_an_encoder_that_sees_its_neighbourhood_only_is_refused():
    torch.manual_seed(0)
    model = ModernBertForMaskedLM(ModernBertConfig(**SIZES, pad_token_id=0, local_attention=8))
    with pytest.raises(ModelError, match="is not computed for packed rows"):
        masked.check_isolation(model, pack())


def test_an_attention_without_masks_or_bounds_is_refused():
    model = bert()
    model.set_attn_implementation("flex_attention")
    with pytest.raises(ModelError, match=r"compute\.attention flex_attention.*set compute\.attention auto"):
        masked.forward(model, pack(), torch.tensor([1]))


def test_dropout_of_attention_is_drawn_on_the_cpu():
    model = bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.5).train()
    assert attention.choose(model, torch.device("cpu"), torch.float32, compiled=False) == "varlen"
    model.set_attn_implementation("varlen")
    batch = pack()
    one, two = (masked.forward(model, batch, batch["positions"]) for _ in range(2))
    assert distance(one, two) > 0.01


def test_the_context_of_roberta_leaves_out_the_positions_of_padding():
    assert masked.context(bert()) == 64
    assert masked.context(roberta()) == 64


@pytest.mark.parametrize(("kind", "objective"), [("decoder", "causal_lm"), ("encoder-decoder", "denoising")])
def test_an_encoder_is_refused_by_other_objectives_with_its_own(kind, objective, tmp_path):
    bert().save_pretrained(tmp_path)
    Tokenizer(models.WordPiece(unk_token="[UNK]")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(
        ConfigError, match=rf"{objective}: is for {kind}s, and .* is an encoder; set objective.name masked_lm"
    ):
        kinds.check(str(tmp_path), objective, kind)
    assert kinds.check(str(tmp_path), "masked_lm", "encoder").name == "encoder"
