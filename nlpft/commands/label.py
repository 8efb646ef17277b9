"""Turn labelled texts or tagged words into a tokenized dataset, with every row accounted for."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from nlpft.commands.convert import outcomes
from nlpft.data.convert import Converted
from nlpft.data.labelled.convert import convert
from nlpft.data.labelled.options import LabelOptions
from nlpft.data.ledger import rejected_share
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ConfigError
from nlpft.models.pretrained import resolve

MOST = 30  # labels that are shown


@dataclass(frozen=True)
class Config(LabelOptions):
    files: tyro.conf.Positional[tuple[str, ...]] = ()
    """Files, globs or folders, or SPLIT=FILE (train=a.tsv test=b.tsv): JSON, JSONL, parquet, CSV, TSV, lines of label and text,
    CoNLL columns, parallel files, saved datasets; also .gz and .zst."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder for the dataset (`datasets.load_from_disk` opens it)."""
    model: Annotated[str, tyro.conf.arg(aliases=["-m"])] = "smollm2-135m"
    """Model whose tokenizer is used: a hub id, a local folder, or smollm2-135m."""
    max_rejected: float = 0.05
    """Share of rows that may be rejected; if there are more, the exit code is 1."""
    overwrite: bool = False
    """Replace the folder if another dataset is already there."""


def run(config: Config) -> int:
    output = _check(config)
    tokenizer = TextTokenizer(resolve(config.model, weights=False))
    made = convert(config.files, output, tokenizer, config, model=config.model, overwrite=config.overwrite)
    show(made)
    share = rejected_share(made.summary)
    if share <= config.max_rejected:
        return 0
    limit = f"max_rejected {config.max_rejected:.1%}"
    print(f"{share:.1%} of the rows were rejected, more than {limit}: see the reasons above", file=sys.stderr)
    return 1


def _check(config: Config) -> Path:
    """The output. Raises ConfigError where something is missing."""
    if not config.files:
        raise ConfigError("no input: name the files with labels")
    if config.output is None:
        raise ConfigError("no output: name a folder for the dataset by -o")
    if not 0 <= config.max_rejected <= 1:
        raise ConfigError(f"max_rejected {config.max_rejected:g}: a share of the rows, from 0 to 1")
    return config.output


def show(made: Converted) -> None:
    """What became of the rows, how the files were read, and what the labels are."""
    summary, console = made.summary, Console(highlight=False)
    if made.hit:
        console.print("already made from the same files with the same settings", style="dim")
    console.print(outcomes(summary))
    for name, how in summary.get("read_as", {}).items():
        console.print(f"{name}: {how}", soft_wrap=True)
    console.print(label_table(summary))
    for splits, leak in summary.get("leaks", {}).items():
        places = ", ".join(" = ".join(pair) for pair in leak["places"])
        console.print(
            f"warning: {splits} share texts: {leak['rows']:,} rows, {leak['other_label']:,} of them with another label "
            f"({places}); --leak drop leaves them out of the training split",
            style="yellow",
            soft_wrap=True,
        )
    console.print(f"{summary['tokens']:,} tokens -> {made.folder}", soft_wrap=True)
    if summary["rejected"]:
        console.print(f"rejected rows with places and remedies: {made.folder / 'rejected.jsonl'}", soft_wrap=True)


def label_table(summary: dict[str, Any]) -> Table:
    """Rows (of tags: words) by label and split."""
    counts: dict[str, dict[str, Any]] = summary["label_counts_by_split"]
    out = Table(box=None, pad_edge=False)
    out.add_column(f"{summary['problem_type'].replace('_', ' ')}")
    for split in counts:
        out.add_column(split, justify="right")
    names = list(dict.fromkeys(name for found in counts.values() for name in found))
    for name in names[:MOST]:
        out.add_row(name, *(_number(found.get(name, 0)) for found in counts.values()))
    if len(names) > MOST:
        out.add_row(f"and {len(names) - MOST} more")
    return out


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
