"""Raw text as a recipe's data: converted beside the run, documents held out by their content."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from nlpft.data.convert import Options, convert
from nlpft.data.loader import DataConfig
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ConfigError, DataError


@dataclass(frozen=True)
class TextConfig:
    files: tuple[str, ...] = ()
    """Raw text to train on, in place of data.train: files, globs or folders. Of plain text every paragraph is a document, of
    tables and JSON every row."""
    held_out: float = 0.0
    """Share of the documents that is not trained on, in place of data.eval; their content and the seed decide."""
    vocabulary: int = 8_192
    """Entries of a tokenizer that is trained on it, at most."""
    lowercase: bool = True
    """Whether an encoder's own tokenizer drops case and accents."""


def check(config: TextConfig) -> None:
    """Raise ConfigError for settings that mean nothing."""
    if not 0 <= config.held_out < 1:
        raise ConfigError(f"text.held_out {config.held_out}: a share from 0 to below 1")
    if config.vocabulary < 512:
        raise ConfigError(f"text.vocabulary {config.vocabulary}: 512 entries at least, of which 256 are single bytes")


def placed(text: TextConfig, data: DataConfig, folder: Path) -> DataConfig:
    """`data`, of which the parts that `text` stands for will lie in `folder`."""
    if not text.files:
        return data
    if not text.held_out:
        return dataclasses.replace(data, train=folder)
    return dataclasses.replace(data, train=folder / "train", eval=folder / "eval")


def prepare(
    text: TextConfig, folder: Path, tokenizer: TextTokenizer, model: str, max_length: int | None, seed: int
) -> None:
    """Convert the files of `text` to `folder`, with the tokenizer of `model`, where that has not been done.

    Each row is a document, or a piece of one of at most `max_length` tokens (default: the model's context); no token is lost.
    Raises DataError where there is no text.
    """
    if text.files:
        splits = (f"train={1 - text.held_out!r}", f"eval={text.held_out!r}") if text.held_out else ()
        options = Options(format="text", max_length=max_length, splits=splits, seed=seed)
        made = convert(list(text.files), folder, tokenizer, options, model=model, overwrite=True)
        for split, facts in made.summary["packs"].items():
            if not facts["rows"]:
                raise DataError(
                    f"text.held_out {text.held_out}: no document of {made.summary['rows_read']} is left for {split}; choose "
                    "another share, cut the text into documents by blank lines, or name a dataset by data.eval"
                )
