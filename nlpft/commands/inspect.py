"""Show rows of a tokenized dataset: what the model reads, what of it is learnt, and what became of the others."""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nlpft.data import provenance, statistics, store, view
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ConfigError, DataError
from nlpft.models.pretrained import resolve

STYLES = {(False, False): "", (True, False): "green", (False, True): "magenta", (True, True): "bold green"}
BRACKETS = "⟦", "⟧"  # around what is learnt, where there are no colours
BAR = 32  # characters of the longest bar
GROUPS = 5  # of rows that are alike, that are named


@dataclass(frozen=True)
class Config:
    dataset: tyro.conf.Positional[Path]
    """Dataset folder, written by `nlpft convert`."""
    rows: int = 5
    """How many rows are shown, from the first; 0: only the summary."""
    source: str | None = None
    """Show what became of the row at this place, such as chats.json:17; also of a rejected one."""
    tokens: bool = False
    """Token by token: position, id, text."""
    statistics: bool = False
    """Lengths, answers, share learnt, roles, special tokens, scripts and copies too."""
    html: Path | None = None
    """Write a page with all of this to a file, in place of the terminal."""
    model: str | None = None
    """Model whose tokenizer turns ids into text (default: the one that the dataset was made with)."""


class Chosen(NamedTuple):
    """What of a dataset is shown."""

    rows: list[int]  # numbers of rows
    rejected: list[dict[str, Any]]  # lines of rejected.jsonl


def run(config: Config) -> int:
    if config.rows < 0:
        raise ConfigError(f"rows {config.rows}: take 0 or more")
    if "problem_type" in store.info(config.dataset):
        from nlpft.commands import _inspect_labelled

        return _inspect_labelled.run(config)
    table = store.read(config.dataset)
    chosen = choose(table, config)
    if config.html:
        from nlpft.commands import _inspect_page  # matplotlib takes its time

        tokenizer = tokenizer_of(config)
        print(_inspect_page.write_page(config.html, table, config.dataset, tokenizer, *chosen, one=bool(config.source)))
        return 0
    console = Console(highlight=False)
    coloured = console.color_system is not None and not console.no_color
    if chosen.rows:
        show(console, table, chosen.rows, tokenizer_of(config), config.tokens, coloured)
    for rejection in chosen.rejected:
        console.print(rejected_row(rejection), soft_wrap=True)
    console.print(summary(table, config.dataset))
    if config.statistics:
        show_statistics(console, table, config)
    return 0


def choose(table: pa.Table, config: Config) -> Chosen:
    """The first rows, or what came from `config.source`. Raises DataError where nothing did."""
    if config.source is None:
        return Chosen(list(range(min(config.rows, len(table)))), [])
    chosen = Chosen(provenance.find(table, config.source), provenance.find_rejected(config.dataset, config.source))
    if not chosen.rows and not chosen.rejected:
        raise DataError(f"{config.source}: not in {config.dataset}: {why_not(table, config.dataset)}")
    return chosen


def why_not(table: pa.Table, dataset: Path) -> str:
    """Why nothing is known of a row."""
    if "source" not in table.column_names:
        return "its rows do not say where they came from (no column source)"
    if provenance.is_split(dataset):
        return (
            "neither in this split nor rejected; look in the other splits (a source is FILE:ROW, and rows count from 1)"
        )
    return "neither kept nor rejected; a source is FILE:ROW, and rows count from 1"


def tokenizer_of(config: Config) -> TextTokenizer:
    """The tokenizer that the dataset was made with, or that of --model."""
    name = config.model or store.info(config.dataset).get("model")
    if not name:
        raise ConfigError(
            f"{config.dataset}: does not say which model's tokenizer it was made with; name it by --model"
        )
    return TextTokenizer(resolve(name, weights=False))


def show(
    console: Console, table: pa.Table, chosen: list[int], tokenizer: TextTokenizer, by_token: bool, coloured: bool
) -> None:
    """Print rows `chosen` of `table` and what the colours mean."""
    for number in chosen:
        row = view.row(table, number)
        view.check(row, tokenizer)
        console.print(header(row), soft_wrap=True)
        lines = token_lines(row, tokenizer) if by_token else [view.runs(row, tokenizer)]
        for line in lines:
            # Soft wrapping: a pipe gets the text as it is, and a terminal folds it by itself.
            text = styled(line, coloured)
            console.print(text, soft_wrap=True, end="" if text.plain.endswith("\n") else "\n")
        console.print()
    console.print(legend(coloured), soft_wrap=True)


def header(row: view.Row) -> Text:
    """Place, length, learnt share and repairs of a row."""
    tokens, learnt = len(row.ids), int(row.learnt.sum())
    share = f"{tokens:,} tokens, {learnt:,} learnt ({learnt / max(1, tokens):.0%})"
    text = Text.assemble((f"── {view.visible(row.place)}", "bold"), (f"  {share}", "dim"))
    return text.append(f"  {view.visible(row.notes)}", "yellow") if row.notes else text


def rejected_row(rejection: dict[str, Any]) -> Text:
    """A row that is not in the dataset: place, reason, remedy, and the row itself."""
    reason = rejection["reason"] + (f": {rejection['detail']}" if rejection.get("detail") else "")
    text = Text.assemble(
        (f"── {view.visible(rejection['source'])}", "bold"), (f"  rejected, {view.visible(reason)}\n", "red")
    )
    for name in ("offset", "id", "remedy"):
        if value := rejection.get(name):
            text.append(f"{name}: {view.visible(str(value))}\n", "dim")
    return text.append(view.visible(json.dumps(rejection.get("row"), ensure_ascii=False, indent=2)) + "\n")


def token_lines(row: view.Row, tokenizer: TextTokenizer) -> list[list[view.Piece]]:
    """A line for each token: position, id, text."""
    special = set(tokenizer.special.values())
    lines = []
    for at, token in enumerate(row.ids.tolist()):
        place = view.Piece(at, [token], f"{at:6} {token:8}  ", False, False)
        text = view.quoted(row, at, tokenizer)
        lines.append([place, place._replace(text=text, learnt=bool(row.learnt[at]), special=token in special)])
    return lines


def styled(line: list[view.Piece], coloured: bool) -> Text:
    """Learnt text green or, without colours, in brackets."""
    if coloured:
        return Text.assemble(*((piece.text, STYLES[piece.learnt, piece.special]) for piece in line))
    parts = (
        (learnt, "".join(piece.text for piece in group))
        for learnt, group in itertools.groupby(line, lambda p: p.learnt)
    )
    return Text("".join(text.join(BRACKETS) if learnt else text for learnt, text in parts))


def legend(coloured: bool) -> Text:
    """What colours or brackets mean."""
    if not coloured:
        return Text("learnt".join(BRACKETS))
    return Text.assemble(
        ("learnt", STYLES[True, False]),
        "  ",
        ("special token", STYLES[False, True]),
        "  ",
        ("special token, learnt", STYLES[True, True]),
    )


def summary(table: pa.Table, dataset: Path) -> Table:
    """Rows, tokens, learnt share and lengths of the whole dataset, and what became of the rows read."""
    out = Table.grid(padding=(0, 2))
    for name, value in statistics.summary(statistics.masks(table)).items():
        out.add_row(name, value)
    for total in provenance.outcomes(store.facts(dataset))[:1]:
        counts = ", ".join(f"{rows:,} {outcome}" for outcome, rows in total.counts.items())
        out.add_row("read", f"{total.rows_read:,} rows: {counts}")
    return out


def show_statistics(console: Console, table: pa.Table, config: Config) -> None:
    """Print how lengths, answers and masks are distributed, and what the rows hold."""
    masks, contents = statistics.masks(table), statistics.contents(table)
    console.print(bars("length in tokens, rows", statistics.by_doubling(masks.lengths)))
    console.print(bars("answers (runs of learnt tokens), rows", statistics.by_number(masks.answers)))
    console.print(bars("share learnt, rows", statistics.by_share(masks.learnt, masks.lengths)))
    if roles := store.facts(config.dataset).get("tokens_by_class"):
        console.print(bars("role, tokens", roles))
    try:
        tokenizer = tokenizer_of(config)
    except ConfigError as error:  # what needs no text is shown all the same
        console.print(f"no scripts and special tokens: {error}\n", style="dim", soft_wrap=True)
    else:
        console.print(bars("special token, times", statistics.special(contents, tokenizer)))
        scripts = statistics.scripts(table, tokenizer)
        console.print(bars(f"script of the learnt text, of {scripts.rows:,} rows", scripts.main))
    console.print(copies(statistics.copies(table, contents, GROUPS)), soft_wrap=True)


def bars(title: str, counts: dict[str, int]) -> Table:
    """A count and a bar for each name, and an empty line."""
    out = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=False, pad_edge=False)
    out.add_column()
    out.add_column(justify="right")
    out.add_column()
    largest = max([1, *counts.values()])
    for name, count in counts.items():
        out.add_row(Text(view.visible(name)), f"{count:,}", "█" * -(-BAR * count // largest))
    out.add_row()
    return out


def copies(found: statistics.Copies) -> Text:
    """How many rows are exact copies of an earlier one, and where."""
    text = Text.assemble(("copies", "bold"), f"\n{found.rows:,} rows are copies of an earlier one\n")
    for first, second, more in found.groups:
        text.append(f"  {view.visible(first)} = {view.visible(second)}{f' and {more:,} more' if more else ''}\n")
    return text
