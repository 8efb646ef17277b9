"""A small tokenizer and model, made in-process: what the tests use where no pretrained weights are needed."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from nlpft.templates.chatml import CHAT_TEMPLATE

TEXTS = ["Hello there, how are you? word reply answer question system user assistant 0 1 2 3 4 5 6 7 8 9\n"] * 4
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def save_tokenizer(folder: Path, chat_template: str | None = CHAT_TEMPLATE) -> Path:
    """A byte-level BPE tokenizer of 400 entries with ChatML's control tokens."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = chat_template
    tokenizer.save_pretrained(folder)
    return folder


def make_model(seed: int = 0, dropout: float = 0.0) -> LlamaForCausalLM:
    """A Llama of three blocks and 400 entries, float32, that sees 256 tokens."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=400,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            attention_dropout=dropout,
            tie_word_embeddings=True,
        )
    )


def save_model(folder: Path) -> Path:
    """Model and tokenizer as `from_pretrained` reads them."""
    save_tokenizer(folder)
    make_model().save_pretrained(folder)
    return folder


def chat(*turns: str, **extra) -> dict:
    """A ShareGPT record of alternating turns, the user's first."""
    roles = ["human", "gpt"]
    return {"conversations": [{"from": roles[i % 2], "value": turn} for i, turn in enumerate(turns)], **extra}


def write_json(path: Path, rows: list) -> Path:
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def write_jsonl(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
