"""Turn instruction files into a tokenized dataset, with every row accounted for."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn
from rich.table import Table

from nlpft.data.convert import Converted, Options, convert
from nlpft.data.export import export
from nlpft.data.ledger import rejected_share
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ConfigError
from nlpft.models.pretrained import resolve


@dataclass(frozen=True)
class Config(Options):
    files: tyro.conf.Positional[tuple[str, ...]] = ()
    """Files, globs or folders, a hub dataset id, or - for standard input: JSON, JSONL,
    parquet, CSV, TSV, text, also .gz and .zst."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder for the dataset (`datasets.load_from_disk` opens it), or the JSONL file of --to."""
    model: Annotated[str, tyro.conf.arg(aliases=["-m"])] = "smollm2-135m"
    """Model whose tokenizer and chat template are used: a hub id, a local folder, or smollm2-135m."""
    max_rejected: float = 0.05
    """Share of rows that may be rejected; if there are more, the exit code is 1."""
    to: Literal["dataset", "sharegpt", "alpaca", "messages"] = "dataset"
    """What is written: a tokenized dataset, or the conversations in another format, as JSONL."""
    overwrite: bool = False
    """Replace the folder if another dataset is already there."""


def run(config: Config) -> int:
    output = check(config)
    if config.to != "dataset":
        return _export(config, output)
    tokenizer = TextTokenizer(resolve(config.model, weights=False))
    check_length(config.max_length, tokenizer.context, config.model)
    with _progress() as progress:
        made = convert(
            config.files,
            output,
            tokenizer,
            config,
            model=config.model,
            overwrite=config.overwrite,
            progress=progress,
        )
    show(made)
    return _exit_code(made.summary, config)


def _export(config: Config, output: Path) -> int:
    summary = export(config.files, output, config.to, config, config.overwrite)
    console = Console()
    console.print(outcomes(summary))
    console.print(f"-> {output}", soft_wrap=True)
    _show_files(console, summary)
    return _exit_code(summary, config)


def check(config: Config) -> Path:
    """The output. Raises ConfigError where something is missing."""
    if not config.files:
        raise ConfigError("no input: name the files to convert")
    if config.output is None:
        raise ConfigError("no output: name a folder for the dataset by -o")
    if not 0 <= config.max_rejected <= 1:
        raise ConfigError(f"max_rejected {config.max_rejected:g}: a share of the rows, from 0 to 1")
    if config.workers < 0:
        raise ConfigError(f"workers {config.workers}: a number of processes, or 0 for one for each core")
    return config.output


def check_length(length: int | None, context: int | None, model: str) -> None:
    """Raise ConfigError where rows could be longer than the model can see."""
    if length is not None and length < 1:
        raise ConfigError(f"max_length {length}: a row has at least one token")
    if length and context and length > context:
        raise ConfigError(f"max_length {length} is more than the context of {model}, {context} tokens; lower it")


def show(made: Converted) -> None:
    """What became of the rows, as a table that adds up."""
    summary, console = made.summary, Console()
    if made.hit:
        console.print("already converted from the same files with the same settings", style="dim")
    console.print(outcomes(summary))
    share = summary["learnt_tokens"] / max(1, summary["tokens"])
    tokens = sum(facts["tokens"] for facts in summary["packs"].values())
    console.print(f"{tokens:,} tokens, {share:.0%} of them learnt -> {made.folder}", soft_wrap=True)
    for split, facts in summary["packs"].items():
        name = "" if split == "all" else f"{split}: "
        packed = (
            f" fill {facts['packs']:,} packs of {facts['pack_length']:,} by {facts['fill']:.1%}"
            if facts.get("packs")
            else ""
        )
        console.print(f"{name}{facts['rows']:,} rows, {facts['tokens']:,} tokens{packed}")
    _show_files(console, summary)
    for place in summary["prompts"]["different"]:
        console.print(
            f"warning: {place}: its prompt has other tokens in training than when it is served; please report the model",
            style="yellow",
            soft_wrap=True,
        )
    if summary["rejected"]:
        console.print(f"rejected rows with places and remedies: {made.folder / 'rejected.jsonl'}", soft_wrap=True)


def _show_files(console: Console, summary: dict[str, Any]) -> None:
    """What is worth knowing of how the files were read."""
    for name, key in summary.get("rows_below_key", {}).items():
        console.print(f"{name}: its rows are the list below its key {key!r}", soft_wrap=True)
    for name, place in summary.get("cut_off", {}).items():
        console.print(f"warning: {name}: {place}", style="yellow", soft_wrap=True)


def outcomes(summary: dict[str, Any]) -> Table:
    """Rows read, and what became of them, with the reasons."""
    table = Table(box=None, pad_edge=False)
    table.add_column("rows")
    table.add_column("", justify="right")
    table.add_column("")
    table.add_row("read", f"{summary['rows_read']:,}")
    for outcome in ("kept", "repaired", "truncated", "rejected"):
        lost = f"{summary['tokens_lost']:,} tokens lost" if outcome == "truncated" and summary["truncated"] else ""
        table.add_row(outcome, f"{summary[outcome]:,}", lost)
        for reason, count in summary["reasons"].get(outcome, {}).items():
            table.add_row(f"  {reason}", "", f"{count:,}", style="dim")
    return table


def _exit_code(summary: dict[str, Any], config: Config) -> int:
    """1, and a word on it, where more rows were rejected than may be."""
    share = rejected_share(summary)
    if share <= config.max_rejected:
        return 0
    print(
        f"{share:.1%} of the rows were rejected, more than max_rejected {config.max_rejected:.1%}: see the reasons above; "
        "the others have been written",
        file=sys.stderr,
    )
    return 1


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], Any] | None]:
    """A bar on the terminal, to be told the bytes done and in all; None where there is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = ("converting", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
