"""Rows of a dataset for heads on the terminal: text with its label, or words with their spans coloured."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nlpft.commands.inspect import Config, choose, rejected_row, tokenizer_of
from nlpft.commands.label import label_table
from nlpft.data import provenance, store, view
from nlpft.data.labelled.labels import in_words
from nlpft.data.labelled.table import TAGGING
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ConfigError
from nlpft.types import IGNORE

SPAN, OTHER = "green", "dim"
BRACKETS = "⟦", "⟧"  # around a span, where there are no colours


class Tagged(NamedTuple):
    """A run of pieces: the words of one span, or one word of none."""

    ids: list[int]
    kind: str  # of the span; '' for none


def run(config: Config) -> int:
    """Print what `config` asks for. Raises ConfigError for what is not shown of such datasets, DataError as `inspect` does."""
    if config.html or config.statistics:
        raise ConfigError("html and statistics are for datasets of `nlpft convert`; this one has labels for a head")
    info = store.info(config.dataset)
    table = store.read(config.dataset, needs=("input_ids", "labels" if info["problem_type"] == TAGGING else "target"))
    chosen = choose(table, config)
    console = Console(highlight=False)
    tokenizer = tokenizer_of(config)
    for number in chosen.rows:
        _show(console, table.slice(number, 1).to_pylist()[0], info, tokenizer, config.tokens)
    for rejection in chosen.rejected:
        console.print(rejected_row(rejection), soft_wrap=True)
    console.print(_summary(table, config))
    split = config.dataset.resolve().name if provenance.is_split(config.dataset) else "all"
    counts = {split: info["label_counts"]}
    console.print(label_table({"problem_type": info["problem_type"], "label_counts_by_split": counts}))
    return 0


def _show(
    console: Console, row: dict[str, Any], info: dict[str, Any], tokenizer: TextTokenizer, by_token: bool
) -> None:
    """One row: place, label, repairs, and its text or tokens."""
    head = Text.assemble((f"── {view.visible(row['source'])}", "bold"), (f"  {len(row['input_ids']):,} tokens", OTHER))
    if info["problem_type"] != TAGGING:
        head.append(f"  {in_words(row['target'], info['problem_type'], info['label_names'])}", SPAN)
    console.print(head.append(f"  {view.visible(row['notes'])}", "yellow"), soft_wrap=True)
    if by_token:
        for line in _tokens(row, info, tokenizer):
            console.print(line, soft_wrap=True)
    elif info["problem_type"] == TAGGING:
        console.print(_sentence(row, info["label_names"], tokenizer, console.color_system is not None), soft_wrap=True)
    else:
        console.print(view.visible(tokenizer.decode(np.array(row["input_ids"]))), soft_wrap=True, markup=False)
    console.print()


def runs(ids: Sequence[int], labels: Sequence[int], names: Sequence[str]) -> list[Tagged]:
    """The pieces of a row, without the special tokens at its ends, by span."""
    firsts = [i for i, tag in enumerate(labels) if tag != IGNORE]
    out: list[Tagged] = []
    for start, end in zip(firsts, [*firsts[1:], len(ids)], strict=True):
        mark, _, kind = names[labels[start]].partition("-")
        kind = "" if mark == "O" else kind or mark
        if out and mark == "I" and out[-1].kind == kind:
            out[-1] = Tagged([*out[-1].ids, *ids[start:end]], kind)
        else:
            out.append(Tagged(list(ids[start:end]), kind))
    return out


def _sentence(row: dict[str, Any], names: Sequence[str], tokenizer: TextTokenizer, coloured: bool) -> Text:
    special = set(tokenizer.special.values())
    unknown = tokenizer.vocabulary.unknown
    text = Text()
    for run in runs(row["input_ids"], row["labels"], names):
        ids = [i for i in run.ids if i not in special or i == unknown]
        words = view.visible(tokenizer.decode(np.array(ids)).strip())
        shown = words if coloured or not run.kind else words.join(BRACKETS)
        text.append(" " if text.plain else "").append(shown, SPAN if run.kind else "")
        text.append(f" {run.kind}" if run.kind else "", OTHER)
    return text


def _tokens(row: dict[str, Any], info: dict[str, Any], tokenizer: TextTokenizer) -> list[str]:
    """A line for each token: position, id, entry of the vocabulary, tag."""
    tags = row.get("labels") or [IGNORE] * len(row["input_ids"])
    said = ["" if tag == IGNORE else info["label_names"][tag] for tag in tags]
    rows = enumerate(zip(row["input_ids"], said, strict=True))
    return [f"{at:6} {token:8}  {tokenizer.token_text(token) or '':20} {tag}".rstrip() for at, (token, tag) in rows]


def _summary(table: pa.Table, config: Config) -> Table:
    """Rows, tokens and lengths, and what became of the rows read."""
    lengths = table.column("length").to_numpy()
    low, median, high, top = np.percentile(lengths, [0, 50, 95, 100]).round().astype(int)
    out = Table.grid(padding=(0, 2))
    out.add_row("rows", f"{len(lengths):,}")
    out.add_row("tokens", f"{int(lengths.sum()):,}")
    out.add_row("length", f"{low:,} to {top:,} tokens, median {median:,}, 95 % up to {high:,}")
    for total in provenance.outcomes(store.facts(config.dataset))[:1]:
        counts = ", ".join(f"{rows:,} {outcome}" for outcome, rows in total.counts.items())
        out.add_row("read", f"{total.rows_read:,} rows: {counts}")
    return out
