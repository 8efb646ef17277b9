"""Show rows of a tokenized dataset: what the model reads, and what of it is learnt."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nlpft.data import store
from nlpft.data.columns import values
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ConfigError, DataError, ModelError
from nlpft.models.pretrained import resolve
from nlpft.types import IGNORE

STYLES = {(False, False): "", (True, False): "green", (False, True): "magenta", (True, True): "bold green"}
BRACKETS = "⟦", "⟧"  # around what is learnt, where there are no colours


@dataclass(frozen=True)
class Config:
    dataset: tyro.conf.Positional[Path]
    """Dataset folder, written by `nlpft convert`."""
    rows: int = 5
    """How many rows are shown, from the first; 0: only the summary."""
    source: str | None = None
    """Show the row that came from this place, such as chats.json:17."""
    tokens: bool = False
    """Token by token: position, id, text."""
    model: str | None = None
    """Model whose tokenizer turns ids into text (default: the one that the dataset was made with)."""


class Run(NamedTuple):
    """Neighbouring tokens that are alike, as text."""

    text: str
    learnt: bool
    special: bool


def run(config: Config) -> int:
    table = plain(store.read(config.dataset))
    chosen = [find(table, config)] if config.source else list(range(min(config.rows, len(table))))
    console = Console(highlight=False)
    coloured = console.color_system is not None and not console.no_color
    if chosen:
        show(console, table, chosen, tokenizer_of(config), config.tokens, coloured)
    console.print(summary(table))
    return 0


def show(
    console: Console, table: pa.Table, chosen: list[int], tokenizer: TextTokenizer, by_token: bool, coloured: bool
) -> None:
    """Print rows `chosen` of `table` and what the colours mean."""
    for number in chosen:
        ids, learnt = row(table, number)
        check(ids, tokenizer, place(table, number))
        console.print(header(place(table, number), learnt), soft_wrap=True)
        lines = token_lines(ids, learnt, tokenizer) if by_token else [list(runs(ids, learnt, tokenizer))]
        for line in lines:
            # Soft wrapping: a pipe gets the text as it is, and a terminal folds it by itself.
            text = styled(line, coloured)
            console.print(text, soft_wrap=True, end="" if text.plain.endswith("\n") else "\n")
        console.print()
    console.print(legend(coloured), soft_wrap=True)


def plain(table: pa.Table) -> pa.Table:
    """`table` with token columns of the type that nlpft writes; other programs' datasets have 64-bit ones."""
    for name in ("input_ids", "labels"):
        if table.schema.field(name).type != store.SCHEMA.field(name).type:
            column = table.column(name).cast(store.SCHEMA.field(name).type)
            table = table.set_column(table.schema.get_field_index(name), name, column)
    return table


def find(table: pa.Table, config: Config) -> int:
    """Number of the row that came from `config.source`, which may leave out folders.

    Raises DataError where there is none, with the reason if it was rejected.
    """
    source = config.source or ""
    if "source" not in table.column_names:
        raise DataError(f"{config.dataset}: its rows do not say where they came from (no column source)")
    sources = table.column("source")
    same = pc.or_(pc.equal(sources, source), pc.ends_with(sources, f"/{source}"))
    number = pc.index(same, True).as_py()
    if number < 0:
        raise DataError(f"{source}: not in {config.dataset}: {why_not(config.dataset, source)}")
    return number


def why_not(dataset: Path, source: str) -> str:
    """Why a row is not in the dataset, from its list of rejected ones."""
    path = dataset / "rejected.jsonl"
    for line in path.open(encoding="utf-8") if path.is_file() else ():
        row = json.loads(line)
        if row["source"] == source or row["source"].endswith(f"/{source}"):
            return f"rejected, {row['reason']}" + (f" ({row['detail']})" if row["detail"] else "")
    return "neither kept nor rejected; a source is FILE:ROW, and rows count from 1"


def tokenizer_of(config: Config) -> TextTokenizer:
    """The tokenizer that the dataset was made with, or that of --model."""
    name = config.model or store.info(config.dataset).get("model")
    if not name:
        raise ConfigError(
            f"{config.dataset}: does not say which model's tokenizer it was made with; name it by --model"
        )
    return TextTokenizer(resolve(name, weights=False))


def row(table: pa.Table, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Token ids, int32 [tokens], and whether each is learnt, bool [tokens]."""
    ids, labels = (values(table.column(name)[number].values) for name in ("input_ids", "labels"))
    return ids, labels != IGNORE


def place(table: pa.Table, number: int) -> str:
    return table.column("source")[number].as_py() if "source" in table.column_names else f"row {number + 1}"


def check(ids: np.ndarray, tokenizer: TextTokenizer, source: str) -> None:
    """Raise ModelError where `ids` cannot have come from this tokenizer."""
    unknown = [token for token in np.unique(ids).tolist() if spelling(token, tokenizer) is None]
    if unknown:
        raise ModelError(
            f"{source}: the tokenizer in {tokenizer.folder} has no token {unknown[0]}; "
            "name the model that the dataset was made with by --model"
        )


def header(source: str, learnt: np.ndarray) -> Text:
    """Place, length and learnt share of a row."""
    share = f"{len(learnt):,} tokens, {learnt.sum():,} learnt ({learnt.sum() / max(1, len(learnt)):.0%})"
    return Text.assemble((f"── {source}", "bold"), (f"  {share}", "dim"))


def runs(ids: np.ndarray, learnt: np.ndarray, tokenizer: TextTokenizer) -> Iterator[Run]:
    """The row as text. Tokens that are alike are decoded together: one alone may be part of a character."""
    special = np.isin(ids, list(tokenizer.special.values()))
    changes = np.flatnonzero((learnt[1:] != learnt[:-1]) | (special[1:] != special[:-1])) + 1
    for start, end in itertools.pairwise([0, *changes.tolist(), len(ids)] if len(ids) else []):
        yield Run(visible(decode(ids, start, end, tokenizer)), bool(learnt[start]), bool(special[start]))


def token_lines(ids: np.ndarray, learnt: np.ndarray, tokenizer: TextTokenizer) -> Iterator[list[Run]]:
    """A line for each token: position, id, text."""
    special = set(tokenizer.special.values())
    for at, token in enumerate(ids.tolist()):
        text = decode(ids, at, at + 1, tokenizer)
        if token not in special:
            text = json.dumps(text, ensure_ascii=False) if "\ufffd" not in text else in_bytes(token, tokenizer)
        yield [Run(f"{at:6} {token:8}  ", False, False), Run(text, bool(learnt[at]), token in special)]


def decode(ids: np.ndarray, start: int, end: int, tokenizer: TextTokenizer) -> str:
    """Text of `ids[start:end]` where they stand: by themselves some tokenizers' tokens lose the blank they begin with."""
    before, whole = (tokenizer.decode(ids[max(0, start - 1) : stop]) for stop in (start, end))
    joins = "\ufffd" in before or not whole.startswith(before)  # within a character
    return tokenizer.decode(ids[start:end]) if joins else whole[len(before) :]


def spelling(token: int, tokenizer: TextTokenizer) -> str | None:
    """The token as the vocabulary spells it, or None where it has no such id."""
    return tokenizer.token_text(token)


def in_bytes(token: int, tokenizer: TextTokenizer) -> str:
    """A token that is not a whole character: its bytes (\\xf0\\x9f) or, where it is no byte-level one, its spelling."""
    name = spelling(token, tokenizer) or ""
    return repr(bytes(BYTES[c] for c in name))[2:-1] if BYTES.keys() >= set(name) else name


def _byte_alphabet() -> dict[str, int]:
    """Byte by the character that stands for it in byte-level vocabularies (GPT-2's `bytes_to_unicode`)."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(256 + n): byte for n, byte in enumerate(others)}


BYTES = _byte_alphabet()


def visible(text: str) -> str:
    """`text` with its control characters spelt out, so that data cannot steer the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" or not c.isascii() else repr(c)[1:-1] for c in text)


def styled(line: list[Run], coloured: bool) -> Text:
    """Learnt text green or, without colours, in brackets."""
    if coloured:
        return Text.assemble(*((run.text, STYLES[run.learnt, run.special]) for run in line))
    parts = (
        (learnt, "".join(run.text for run in group)) for learnt, group in itertools.groupby(line, lambda r: r.learnt)
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


def summary(table: pa.Table) -> Table:
    """Rows, tokens, learnt share and lengths of the whole dataset."""
    lengths, learnt = lengths_and_learnt(table)
    low, median, high, top = np.percentile(lengths, [0, 50, 95, 100]).round().astype(int)
    out = Table.grid(padding=(0, 2))
    out.add_row("rows", f"{len(table):,}")
    out.add_row("tokens", f"{lengths.sum():,}")
    out.add_row("learnt", f"{learnt.sum():,} ({learnt.sum() / max(1, lengths.sum()):.1%})")
    out.add_row("length", f"min {low:,}, median {median:,}, p95 {high:,}, max {top:,} tokens")
    if nothing := int((learnt == 0).sum()):
        out.add_row("unlearnt", f"{nothing:,} rows have no learnt token")
    return out


def lengths_and_learnt(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and learnt tokens of each row, [rows]."""
    lengths, learnt = [], []
    for chunk in table.column("labels").chunks:
        lengths.append(values(pc.list_value_length(chunk)))
        before = np.concatenate(([0], np.cumsum(values(chunk.flatten()) != IGNORE)))
        learnt.append(np.diff(before[np.cumsum(lengths[-1])], prepend=0))
    return np.concatenate(lengths), np.concatenate(learnt)
