"""Masked language modelling: how much is hidden, how, by which dice, and that nothing else is scored."""

import itertools
from collections import Counter
from pathlib import Path

import corpora
import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from nlpft.data import new_tokenizer
from nlpft.data.loader import DataConfig, PackedData, Share
from nlpft.errors import ConfigError
from nlpft.models import masked
from nlpft.objectives import masked_lm
from nlpft.objectives._hidden import begins_word

ROWS = [40, 7, 100, 3, 23, 61]  # tokens of text of each row


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wordpiece")
    text = corpora.write_text(folder / "corpus.txt")
    new_tokenizer.train([str(text)], "encoder", 90, folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    settings = {k: v for k, v in corpora.CONFIGS["encoder"].items() if k != "model_type"}
    return BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **settings)).eval()


def data(tokenizer, lengths=ROWS, max_length=128, **settings) -> PackedData:
    """Rows of random text between [CLS] and [SEP]."""
    draw = np.random.default_rng(7)
    ends = tokenizer.cls_token_id, tokenizer.sep_token_id
    rows = [[ends[0], *draw.integers(5, len(tokenizer), n).tolist(), ends[1]] for n in lengths]
    table = pa.table(
        {"input_ids": pa.array(rows, pa.list_(pa.int32())), "labels": pa.array(rows, pa.list_(pa.int32()))}
    )
    corrupt = masked_lm.corruption(masked_lm.Config(**settings), None, tokenizer)
    return PackedData(Path("rows"), max_length, table=table, corrupt=corrupt)


def hidden(found: PackedData, rows: list[int], place: tuple[int, ...] = (3, 1)) -> list[tuple[list[int], list[int]]]:
    """Of each row, where something is hidden and what is shown."""
    batch = found._batch([rows], 1, place)
    bounds, at = batch["cu_seqlens"].tolist(), batch["positions"]
    parts = [at[(at >= a) & (at < b)] - a for a, b in itertools.pairwise(bounds)]
    shown = [batch["input_ids"][0, a:b] for a, b in itertools.pairwise(bounds)]
    return [(part.tolist(), row[part].tolist()) for part, row in zip(parts, shown, strict=True)]


@pytest.mark.parametrize(("rate", "counts"), [(0.15, [6, 1, 15, 1, 3, 9]), (0.5, [20, 4, 50, 2, 12, 30])])
def test_of_every_row_the_share_is_hidden_rounded_and_at_least_one_token(tokenizer, rate, counts):
    found = hidden(data(tokenizer, rate=rate), [0, 1, 2, 3, 4, 5])
    assert [len(places) for places, _ in found] == counts


def test_hidden_tokens_are_masked_replaced_or_shown_by_their_shares(tokenizer):
    found = data(tokenizer, [2000] * 20, 2002)
    original = found.table.column("input_ids").to_pylist()
    kinds: Counter[str] = Counter()
    for row in range(20):
        ((places, shown),) = hidden(found, [row])
        for place, token in zip(places, shown, strict=True):
            kinds[
                "mask" if token == tokenizer.mask_token_id else "same" if token == original[row][place] else "other"
            ] += 1
    shares = {kind: count / kinds.total() for kind, count in kinds.items()}
    assert kinds.total() == 20 * 300
    same_by_chance = 0.1 / (len(tokenizer) - 5)
    expected = {"mask": 0.8, "other": 0.1 - same_by_chance, "same": 0.1 + same_by_chance}
    assert shares == pytest.approx(expected, abs=0.015)  # three standard errors


def test_special_tokens_are_neither_hidden_nor_drawn(tokenizer):
    found = data(tokenizer, rate=0.9, mask=0.0, random=1.0)
    batch = found._batch([[0, 1, 2, 3, 4, 5]], 1)
    special = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id, tokenizer.mask_token_id}
    assert not special & set(batch["targets"].tolist())
    assert not special & set(batch["input_ids"][0, batch["positions"]].tolist())


def test_what_is_not_hidden_is_shown_as_it_is(tokenizer):
    found = data(tokenizer)
    batch, plain = found._batch([[2, 0]], 1), np.concatenate([found.columns.row(2)[0], found.columns.row(0)[0]])
    untouched = np.setdiff1d(np.arange(len(plain)), batch["positions"].numpy())
    assert batch["input_ids"][0].numpy()[untouched].tolist() == plain[untouched].tolist()
    assert batch["targets"].tolist() == plain[batch["positions"]].tolist()


def test_a_rows_dice_follow_from_seed_step_and_row_whatever_it_shares_a_batch_with(tokenizer):
    found = data(tokenizer)
    alone, together = hidden(found, [2])[0], hidden(found, [0, 2, 4])[1]
    assert alone == together
    assert alone != hidden(found, [2], (3, 2))[0]
    assert alone != hidden(found, [2], (4, 1))[0]


def test_steps_draw_anew_and_held_out_rows_always_the_same(tokenizer):
    found = data(tokenizer, [60])
    config = DataConfig(packs_per_step=1)
    steps = found.steps(config, 5, Share())
    first, second = next(steps)[0], next(steps)[0]
    assert first["positions"].tolist() != second["positions"].tolist()  # of one row: every step is an epoch of its own
    assert next(found.steps(config, 5, Share(), 1))[0]["positions"].tolist() == second["positions"].tolist()
    held_out = [next(iter(found.micro_batches(found.packs(0, 0), 1, Share()))) for _ in range(2)]
    assert held_out[0]["positions"].tolist() == held_out[1]["positions"].tolist()


def test_whole_words_are_hidden_whole(tokenizer):
    begins = begins_word(tokenizer)
    found = data(tokenizer, [120], whole_words=True)
    row = found.columns.row(0)[0]
    word = np.cumsum(begins[row])  # its number, for every token
    ((places, _),) = hidden(found, [0])
    touched = {word[place] for place in places}
    text = range(1, len(row) - 1)
    assert sorted(places) == [at for at in text if word[at] in touched]
    assert 0 < len(places) <= 18


def test_words_begin_where_the_vocabulary_marks_them(tokenizer, tiny_folder):
    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert [bool(b) for b in begins_word(tokenizer)] == [not piece.startswith("##") for piece in pieces]
    byte_level = AutoTokenizer.from_pretrained(tiny_folder)
    begins = begins_word(byte_level)
    ids = byte_level("Hello there, answer").input_ids
    starts = [token for token in byte_level.convert_ids_to_tokens(ids) if token.startswith("Ġ")]
    assert sum(begins[ids]) == len(starts) == 2


def test_the_loss_is_that_of_hidden_positions_only(tokenizer, model):
    batch = data(tokenizer)._batch([[0, 4]], 1)
    rows = torch.tensor_split(batch["input_ids"][0], batch["cu_seqlens"][1:-1].long())
    labels = torch.tensor_split(batch["labels"][0], batch["cu_seqlens"][1:-1].long())
    alone = [
        F.cross_entropy(model(input_ids=row[None]).logits[0], wanted, ignore_index=-100, reduction="sum")
        for row, wanted in zip(rows, labels, strict=True)
    ]
    assert int(masked_lm.num_targets(batch)) == 6 + 3
    torch.testing.assert_close(masked.loss(model, batch), sum(alone))


def test_a_row_without_text_has_no_targets(tokenizer, model):
    batch = data(tokenizer, [0, 0])._batch([[0, 1]], 1)
    assert int(masked_lm.num_targets(batch)) == 0
    assert masked.loss(model, batch).item() == 0.0


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"rate": 0.0}, r"objective\.rate 0"), ({"mask": 0.8, "random": 0.3}, r"objective\.random 0\.3")],
)
def test_shares_that_mean_nothing_are_refused(tokenizer, settings, said):
    with pytest.raises(ConfigError, match=said):
        masked_lm.corruption(masked_lm.Config(**settings), None, tokenizer)


def test_a_tokenizer_without_a_mask_token_is_refused(tiny_folder):
    with pytest.raises(ConfigError, match="has no mask token; name the one"):
        masked_lm.corruption(masked_lm.Config(), None, AutoTokenizer.from_pretrained(tiny_folder))
