"""Tokenizers of a few entries, made in-process, in three families: WordPiece, Unigram, byte-level BPE."""

import json
from pathlib import Path

import tiny
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from nlpft.data.tokenizer import TextTokenizer

PIECES = [
    "play",
    "##ing",
    "##s",
    "the",
    "film",
    "a",
    "b",
    "c",
    "d",
    "e",
    "good",
    "bad",
    "new",
    "york",
    "john",
    ".",
    ",",
    "'",
]
PIECES += ["日", "本", "café", "cafe", "x", "y", "##x", "##y", "1", "2", "##1", "##2", "##3", "3", "שלום"]


def wordpiece(folder: Path, context: int = 64) -> TextTokenizer:
    """BERT's kind: small letters, accents dropped, control characters dropped."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = {word: i for i, word in enumerate([*special, *PIECES])}
    made = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.add_special_tokens(special)
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", words["[CLS]"]), ("[SEP]", words["[SEP]"])],
    )
    return _saved(made, folder, {"cls_token": "[CLS]", "sep_token": "[SEP]"}, context)


def unigram(folder: Path, context: int = 64) -> TextTokenizer:
    """SentencePiece's kind: a blank before a text that has none, no template of special tokens, an end of sequence."""
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("▁", -2.0), *((f"▁{w}", -3.0) for w in ("the", "film", "good"))]
    pieces += [(letter, -5.0) for letter in "abcdefghilmot日本\n"]
    made = Tokenizer(models.Unigram(pieces, unk_id=0))
    made.normalizer, made.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace(prepend_scheme="first")
    made.add_special_tokens(["</s>"])
    return _saved(made, folder, {"eos_token": "</s>"}, context)


def byte_level(folder: Path, context: int = 64) -> TextTokenizer:
    """The tests' usual byte-level BPE: no template of special tokens, an end of sequence."""
    tiny.save_tokenizer(folder)
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": context}))
    return TextTokenizer(folder)


def _saved(made: Tokenizer, folder: Path, settings: dict, context: int) -> TextTokenizer:
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": context}))
    return TextTokenizer(folder)


FAMILIES = {"wordpiece": wordpiece, "unigram": unigram, "byte_level": byte_level}
