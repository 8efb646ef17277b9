"""A tokenizer trained on a corpus: byte-level BPE (Sennrich et al. 2016) or WordPiece (Schuster & Nakajima 2012).

Trained by `tokenizers`, written as transformers reads it (tokenizer.json, tokenizer_config.json).
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from nlpft.data import sources
from nlpft.data.conversation import Reading, conversation
from nlpft.data.read import Bad, read
from nlpft.errors import DataError, RowRejected

SENTINELS = [f"<extra_id_{i}>" for i in range(100)]  # as T5's vocabularies have them
# Special tokens of each kind of model by what transformers calls them; the order is that of their ids.
SPECIAL: dict[str, dict[str, str]] = {
    "decoder": {"eos_token": "<|endoftext|>", "pad_token": "<|padding|>"},
    "encoder": {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    },
    "encoder-decoder": {"pad_token": "<pad>", "eos_token": "</s>", "mask_token": "<mask>"},
}


def documents(names: Sequence[str]) -> Iterator[str]:
    """Texts of the documents in files of raw text, in order; rows without one are left out.

    Raises DataError where a name stands for nothing, or a file cannot be read.
    """
    for source in sources.find(list(names), "text"):
        for record in read(source):
            if isinstance(record, Bad):
                continue
            try:
                yield conversation(record, Reading(format="text")).text
            except RowRejected:
                continue


def train(texts: Iterable[str], kind: str, size: int, folder: Path, lowercase: bool = True) -> None:
    """Write a tokenizer of at most `size` entries to `folder`: WordPiece for an encoder (`kind`), else byte-level BPE.

    lowercase: of WordPiece, whether letters lose case and accents. Raises DataError where there is no text.
    """
    specials = list(SPECIAL[kind].values()) + (SENTINELS if kind == "encoder-decoder" else [])
    made, trainer = _wordpiece(size, specials, lowercase) if kind == "encoder" else _byte_level(size, specials)
    count = 0

    def counted() -> Iterator[str]:
        nonlocal count
        for count, text in enumerate(texts, 1):  # noqa: B007  # read behind the loop
            yield text

    made.train_from_iterator(counted(), trainer)
    if not count:
        raise DataError("no text to train a tokenizer on: every file is empty; name others by --text.files")
    if kind == "encoder":
        from tokenizers.processors import TemplateProcessing

        ends = [(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
        made.post_processor = TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ends)
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **SPECIAL[kind]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _byte_level(size: int, specials: list[str]) -> tuple[Any, Any]:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return made, trainers.BpeTrainer(
        vocab_size=size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )


def _wordpiece(size: int, specials: list[str], lowercase: bool) -> tuple[Any, Any]:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    return made, trainers.WordPieceTrainer(vocab_size=size, special_tokens=specials, show_progress=False)
