"""Turn instruction files into a tokenized dataset, with every row accounted for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from nlpft.data.convert import Options, convert
from nlpft.data.ledger import Ledger
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ConfigError
from nlpft.models.pretrained import resolve


@dataclass(frozen=True)
class Config:
    files: tyro.conf.Positional[tuple[Path, ...]]
    """ShareGPT or Alpaca files, JSON or JSONL."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the dataset; `datasets.load_from_disk` opens it."""
    model: Annotated[str, tyro.conf.arg(aliases=["-m"])] = "smollm2-135m"
    """Model whose tokenizer and chat template are used: a hub id, a local folder, or smollm2-135m."""
    format: str = "auto"
    """sharegpt, alpaca, or auto: told by each row's keys."""
    template: str = "auto"
    """Chat template: the tokenizer's own (auto), a built-in one (`nlpft list templates`), or a .jinja file."""
    max_length: int | None = None
    """Longest row in tokens, longer ones are rejected (default: the model's context)."""
    overwrite: bool = False
    """Replace the folder if it is already there."""


def run(config: Config) -> int:
    if not config.files:
        raise ConfigError("no input: name the files to convert")
    tokenizer = TextTokenizer(resolve(config.model, weights=False))
    check_length(config.max_length, tokenizer.context, config.model)
    options = Options(config.format, config.template, config.max_length)
    ledger = convert(config.files, config.output, tokenizer, options, model=config.model, overwrite=config.overwrite)
    show(ledger, config.output)
    return 0


def check_length(length: int | None, context: int | None, model: str) -> None:
    """Raise ConfigError where rows could be longer than the model can see."""
    if length is not None and length < 1:
        raise ConfigError(f"max_length {length}: a row has at least one token")
    if length and context and length > context:
        raise ConfigError(f"max_length {length} is more than the context of {model}, {context} tokens; lower it")


def show(ledger: Ledger, output: Path) -> None:
    """The summary, as a table that adds up."""
    summary = ledger.summary()
    table = Table(box=None, pad_edge=False)
    table.add_column("rows")
    table.add_column("", justify="right")
    table.add_row("read", f"{summary['rows_read']:,}")
    table.add_row("kept", f"{summary['kept']:,}")
    for reason, count in summary["rejected"].items():
        table.add_row(f"rejected: {reason}", f"{count:,}")
    console = Console()
    console.print(table)
    share = summary["learnt_tokens"] / max(1, summary["tokens"])
    console.print(f"{summary['tokens']:,} tokens, {share:.0%} of them learnt -> {output}")
    if summary["rejected"]:
        console.print(f"rejected rows with their places: {output / 'rejected.jsonl'}")
