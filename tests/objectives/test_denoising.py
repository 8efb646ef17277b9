"""Text infilling: what is cut out, what marks it, and that the two parts make the text again."""

import itertools
from pathlib import Path

import corpora
import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoTokenizer, BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration

from nlpft.data import new_tokenizer
from nlpft.data.loader import PackedData
from nlpft.data.pack import rectangles
from nlpft.errors import ConfigError
from nlpft.models import encoder_decoder
from nlpft.objectives import denoising
from nlpft.objectives._hidden import is_text


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("denoising")
    text = corpora.write_text(folder / "corpus.txt")
    new_tokenizer.train([str(text)], "encoder-decoder", 450, folder)
    return AutoTokenizer.from_pretrained(folder)


def t5(tokenizer):
    torch.manual_seed(0)
    settings = {k: v for k, v in corpora.CONFIGS["encoder-decoder"].items() if k != "model_type"}
    config = T5Config(vocab_size=len(tokenizer), decoder_start_token_id=tokenizer.pad_token_id, **settings)
    return T5ForConditionalGeneration(config).eval()


def bart(tokenizer):
    torch.manual_seed(0)
    sizes = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
             "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
             "max_position_embeddings": 128}  # fmt: skip
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1, "decoder_start_token_id": 1}
    return BartForConditionalGeneration(BartConfig(vocab_size=len(tokenizer), **sizes, **ids)).eval()


def data(tokenizer, model, lengths, max_length=2048, **settings) -> PackedData:
    """Rows of random text that end in </s>."""
    draw, ordinary = np.random.default_rng(7), np.flatnonzero(is_text(tokenizer))
    rows = [[*draw.choice(ordinary, n).tolist(), tokenizer.eos_token_id] for n in lengths]
    table = pa.table(
        {"input_ids": pa.array(rows, pa.list_(pa.int32())), "labels": pa.array(rows, pa.list_(pa.int32()))}
    )
    corrupt = denoising.corruption(denoising.Config(**settings), model, tokenizer)
    return PackedData(Path("rows"), max_length, table=table, corrupt=corrupt, plan=rectangles)


def unpadded(ids: torch.Tensor, pad: int) -> list[int]:
    return [token for token in ids.tolist() if token not in (pad, -100)]


def test_spans_put_back_in_place_of_their_sentinels_give_the_text(tokenizer):
    found = data(tokenizer, t5(tokenizer), [50, 9, 200])
    sentinels, pad = denoising.sentinel_ids(tokenizer), tokenizer.pad_token_id
    batch = found._batch([[0, 1, 2]], 1, (1, 1))
    for row in range(3):
        shown, written = unpadded(batch["input_ids"][row], pad), unpadded(batch["labels"][row], pad)
        assert written[-1] == tokenizer.eos_token_id
        marks = [at for at, token in enumerate(written) if token in sentinels]
        spans = {written[a]: written[a + 1 : b] for a, b in zip(marks, [*marks[1:], len(written) - 1], strict=True)}
        assert list(spans) == sentinels[: len(marks)]
        assert spans[written[marks[-1]]] == []  # the last one ends the list
        whole = [token for place in shown for token in spans.get(place, [place])]
        assert whole == found.columns.row(row)[0].tolist()


def test_the_share_that_is_cut_out_is_exact_and_spans_are_apart(tokenizer):
    found = data(tokenizer, t5(tokenizer), [200, 60, 3])
    sentinels = denoising.sentinel_ids(tokenizer)
    for row, cut in ((0, 30), (1, 9), (2, 1)):  # 15 %, or one token at least
        shown = unpadded(found._batch([[row]], 1, (1, row))["input_ids"][0], tokenizer.pad_token_id)
        is_mark = [token in sentinels for token in shown]
        assert len(shown) == len(found.columns.row(row)[0]) - cut + sum(is_mark)
        assert not any(a and b for a, b in itertools.pairwise(is_mark))


def test_with_the_mask_token_the_whole_text_is_written(tokenizer):
    found = data(tokenizer, bart(tokenizer), [90, 40, 12], marks="mask")
    mask, pad = tokenizer.mask_token_id, tokenizer.pad_token_id
    batch = found._batch([[0, 1, 2]], 1, (1, 1))
    for row in range(3):
        text = found.columns.row(row)[0].tolist()
        assert unpadded(batch["labels"][row], pad) == text
        shown = unpadded(batch["input_ids"][row], pad)
        kept = [token for token in shown if token != mask]
        assert len(text) - len(kept) == round(0.3 * (len(text) - 1))
        rest = iter(text)
        assert all(token in rest for token in kept)  # in the text's order
        assert len(shown) <= len(text)


def test_lengths_of_spans_are_poissons():
    draw = np.random.default_rng(0)
    lengths = np.concatenate([denoising.span_lengths(10_000, 0.3, 3.0, draw)[:-1] for _ in range(10)])
    assert lengths.mean() == pytest.approx(3.0, abs=0.06)  # three standard errors of 9,900 draws
    assert lengths.var() == pytest.approx(3.0, abs=0.15)
    assert np.mean(lengths == 0) == pytest.approx(np.exp(-3), abs=0.007)


def test_short_rows_lose_at_most_what_they_have():
    draw = np.random.default_rng(0)
    for tokens in range(6):
        for _ in range(50):
            lengths = denoising.span_lengths(tokens, 0.5, 3.0, draw)
            assert len(lengths) <= lengths.sum()  # marks and tokens cut out: a corrupted row is no longer than it was
            spans = denoising.spans(np.arange(1, tokens + 1), lengths, draw)
            assert sum(b - a for a, b in spans) <= tokens
            assert all(1 <= a <= b <= tokens + 1 for a, b in spans)


@pytest.mark.parametrize("make", [t5, bart])
def test_the_loss_is_transformers_own_summed_whatever_shares_the_batch(make, tokenizer):
    model = make(tokenizer)
    found = data(tokenizer, model, [50, 9, 20, 90])
    nats = 0.0
    for row in range(4):
        one = found._batch([[row]], 1, (2, 1))
        output = model(input_ids=one["input_ids"], labels=one["labels"])
        nats += output.loss * int(denoising.num_targets(one))
        torch.testing.assert_close(encoder_decoder.loss(model, one), output.loss * int(denoising.num_targets(one)))
    together = found._batch([[0, 1, 2, 3]], 1, (2, 1))
    torch.testing.assert_close(encoder_decoder.loss(model, together), nats)


def test_a_batch_without_rows_has_no_targets(tokenizer):
    model = t5(tokenizer)
    batch = data(tokenizer, model, [5])._batch([], 1)
    assert int(denoising.num_targets(batch)) == 0
    assert encoder_decoder.loss(model, batch).item() == 0.0


def test_sentinels_are_asked_for_only_where_there_are_some(tiny_folder, tokenizer):
    plain = AutoTokenizer.from_pretrained(tiny_folder)
    with pytest.raises(ConfigError, match="set mask"):
        denoising.corruption(denoising.Config(marks="sentinels"), t5(tokenizer), plain)
    with pytest.raises(ConfigError, match="has no mask token"):
        denoising.corruption(denoising.Config(), t5(tokenizer), plain)
