"""A tokenizer trained on a corpus: byte-level BPE (Sennrich et al. 2016) or WordPiece (Schuster & Nakajima 2012).

Trained by `tokenizers`, written as transformers reads it (tokenizer.json, tokenizer_config.json).
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing

from nlpft.data import sources
from nlpft.data.conversation import Reading, conversation
from nlpft.data.read import Bad, read
from nlpft.errors import DataError, RowRejected

PREFIX = "##"  # of a piece within a word
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


def train(names: Sequence[str], kind: str, size: int, folder: Path, lowercase: bool = True) -> None:
    """Write a tokenizer of at most `size` entries to `folder`: WordPiece for an encoder (`kind`), else byte-level BPE.

    names: files of raw text. The same text gives the same ids. lowercase: of WordPiece, whether letters lose case and accents.
    Raises DataError where there is no text.
    """
    if next(documents(names), None) is None:
        raise DataError(f"{', '.join(names)}: no text to train a tokenizer on; name other files")
    made = _wordpiece(names, size, lowercase) if kind == "encoder" else _byte_level(names, size, kind)
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **SPECIAL[kind]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _byte_level(names: Sequence[str], size: int, kind: str) -> Tokenizer:
    specials = [*SPECIAL[kind].values(), *(SENTINELS if kind == "encoder-decoder" else [])]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        documents(names),
        trainers.BpeTrainer(vocab_size=size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False),
    )
    return made


def _wordpiece(names: Sequence[str], size: int, lowercase: bool) -> Tokenizer:
    specials = list(SPECIAL["encoder"].values())
    made = _bert(models.WordPiece(unk_token="[UNK]"), lowercase)
    letters = {letter for text in documents(names) for letter in made.normalizer.normalize_str(text)}
    # Named beforehand, they get their ids in this order; left to be found, in that of a hash table with a random seed, and
    # which of two equally frequent pairs is joined first goes by the ids.
    inner = [PREFIX + letter for letter in sorted(letters) if not letter.isspace()]
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=specials + inner, show_progress=False)
    made.train_from_iterator(documents(names), trainer)
    whole = _bert(models.WordPiece(made.get_vocab(with_added_tokens=True), unk_token="[UNK]"), lowercase)
    whole.add_special_tokens(specials)
    ends = [(token, whole.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    whole.post_processor = TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ends)
    return whole


def _bert(model: models.WordPiece, lowercase: bool) -> Tokenizer:
    """A tokenizer that cuts texts as BERT's does."""
    made = Tokenizer(model)
    made.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    return made
