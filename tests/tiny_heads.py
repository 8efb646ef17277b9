"""A small encoder and small datasets with labels, made in-process: what tests of models with heads share."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from nlpft.data.labelled.convert import convert
from nlpft.data.labelled.options import LabelOptions
from nlpft.data.tokenizer import TextTokenizer
from nlpft.types import Task

WORDS = ["good", "bad", "film", "play", "very", "not", "the", "paris", "rome", "anna", "in", "met"]
VOCABULARY = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
YES_NO = Task("single_label_classification", ("no", "yes"), (30, 10))
TAGS = Task("tagging", ("O", "B-x", "I-x"), (10, 5, 5))


def make_bert(seed: int = 0, dropout: float = 0.0) -> BertForMaskedLM:
    """A BERT of two blocks that knows WORDS, float32, and sees 64 tokens."""
    torch.manual_seed(seed)
    return BertForMaskedLM(
        BertConfig(
            vocab_size=len(VOCABULARY),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=64,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            initializer_range=0.3,  # attention that sees something
        )
    )


def save_bert(folder: Path, dropout: float = 0.0) -> Path:
    """Encoder and WordPiece tokenizer as `from_pretrained` reads them."""
    pieces = Tokenizer(models.WordPiece(VOCABULARY, unk_token="[UNK]"))
    pieces.pre_tokenizer = pre_tokenizers.Whitespace()
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    PreTrainedTokenizerFast(tokenizer_object=pieces, **names).save_pretrained(folder)
    make_bert(dropout=dropout).save_pretrained(folder)
    return folder


def texts(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """(label, text): a text with more `good` than `bad` is yes."""
    draw = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        word = ("good", "bad")[number % 2]
        others = draw.choice(WORDS[2:7], size=1 + number % 6).tolist()
        rows.append((("yes", "no")[number % 2], " ".join([*others, word, *others[:1]])))
    return rows


def classified(folder: Path, model: Path, train: int = 24, held_out: int = 9) -> Path:
    """A dataset folder with the splits train, eval and test."""
    named = []
    for seed, (split, count) in enumerate({"train": train, "eval": held_out, "test": held_out}.items()):
        file = folder / f"{split}.tsv"
        lines = [f"{text}\t{label}" for label, text in texts(count, seed)]
        file.write_text("\n".join(["text\tlabel", *lines]) + "\n", encoding="utf-8")
        named.append(f"{split}={file}")
    convert(named, folder / "out", TextTokenizer(model), LabelOptions(), model=str(model))
    return folder / "out"


def tagged(folder: Path, model: Path, count: int = 16) -> Path:
    """A dataset folder with train and eval, of sentences whose places and person are tagged."""
    kinds = {"paris": "B-place", "rome": "B-place", "anna": "B-person"}
    draw = np.random.default_rng(0)
    named = []
    for split in ("train", "eval"):
        lines = []
        for number in range(count):
            words = draw.choice(["met", "in", "the", *kinds], size=3 + number % 5).tolist()
            lines += [f"{word}\t{kinds.get(word, 'O')}" for word in words] + [""]
        file = folder / f"{split}.conll"
        file.write_text("\n".join(lines), encoding="utf-8")
        named.append(f"{split}={file}")
    convert(named, folder / "out", TextTokenizer(model), LabelOptions(task="tag"), model=str(model))
    return folder / "out"


def table(rows: list[list[int]], **columns) -> pa.Table:
    """A dataset's rows of token ids with `target`, or `labels`, by name."""
    return pa.table({"input_ids": pa.array(rows, pa.list_(pa.int32())), **columns})
