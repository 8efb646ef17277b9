"""Corpus files -> the same conversations in another format, as JSONL, with a ledger of what it could not hold."""

import json
from collections.abc import Sequence
from dataclasses import fields
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from nlpft import plugins
from nlpft.data import sources
from nlpft.data.ledger import Ledger, dataset_rows
from nlpft.data.options import Options
from nlpft.data.read import check_whole
from nlpft.data.reading import read_conversations
from nlpft.data.rejection import rejection
from nlpft.data.remedies import remedy
from nlpft.data.select.settings import Selection
from nlpft.data.slices import CutOff, cut
from nlpft.data.sources import Source
from nlpft.data.truncate import Truncation
from nlpft.errors import ConfigError, DataError, RowRejected
from nlpft.files import locked, whole_file
from nlpft.types import Conversation

OF_DATASETS = (
    *(field.name for field in fields(Selection)),
    *(field.name for field in fields(Truncation)),
    "template",
    "max_length",
    "prove",
    "workers",
)  # options that say nothing of conversations


def export(
    names: Sequence[str], output: Path, format: str, options: Options, overwrite: bool = False
) -> dict[str, Any]:
    """Write the conversations of files to `output`, a row a line; returns the ledger's summary.

    `OUTPUT.ledger.json` and `OUTPUT.rejected.jsonl` lie beside it; all three are there, or none. Processes that are given the
    same output wait for the one that came first. Raises ConfigError as `check` does, DataError where a file cannot be read, no
    row can be used or nothing can be written there, RunExists where `output` is there already.
    """
    check(options)
    writer = plugins.load("formats", format)
    found = sources.find(list(names), options.format)
    if output.resolve() in [source.path.resolve() for source in found]:
        raise DataError(f"{output}: would be read and written at the same time; choose another output")
    with locked(output), whole_file(output, overwrite) as folder:
        lines, left, facts = (folder / f"{output.name}{end}" for end in ("", *sources.BESIDE[::-1]))
        with (
            lines.open("w", encoding="utf-8") as out,
            left.open("w", encoding="utf-8", errors="backslashreplace") as bad,
        ):
            ledger = _write(found, writer, options, out, bad)
        summary = ledger.summary()
        facts.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return summary


def check(options: Options) -> None:
    """Raise ConfigError where an option is set that has no effect on conversations."""
    defaults = Options()
    if given := [name for name in OF_DATASETS if getattr(options, name) != getattr(defaults, name)]:
        named = ", ".join(f"--{name}" for name in given)
        raise ConfigError(
            f"--to writes conversations: {named} {'has' if len(given) == 1 else 'have'} no effect on it; leave out what says "
            "how a tokenized dataset is made"
        )


def _write(found: Sequence[Source], writer: ModuleType, options: Options, out: TextIO, left: TextIO) -> Ledger:
    """Raises DataError where a file is cut off and that is not allowed, or no row can be used."""
    ledger, cut_off = Ledger(), CutOff()
    for piece in chain.from_iterable(cut(source, cut_off) for source in found):
        tally = ledger.files[piece.name]
        for _, record, what in read_conversations(piece, options):
            tally.rows_read += 1
            try:
                conversation = _usable(what)
                line = json.dumps(writer.write(conversation), ensure_ascii=False)
            except RowRejected as why:
                row = rejection(record, why, options.columns).as_dict(remedy(why.reason))
                left.write(json.dumps(row, ensure_ascii=False) + "\n")
                tally.reject(why)
                continue
            out.write(line + "\n")
            tally.keep(conversation.notes)
    if not options.allow_truncated:
        check_whole(cut_off)
    if cut_off.places:
        ledger.facts["cut_off"] = cut_off.places
    if wrapped := {source.name: source.key for source in found if source.key}:
        ledger.facts["rows_below_key"] = wrapped
    _check_any(ledger)
    return ledger


def _usable(found: Conversation | RowRejected) -> Conversation:
    if isinstance(found, RowRejected):
        raise found
    return found


def _check_any(ledger: Ledger) -> None:
    if not dataset_rows(ledger.total.summary()):
        reasons = ", ".join(f"{count} x {why}" for why, count in ledger.total.rejections.most_common())
        raise DataError(f"none of {ledger.total.rows_read} rows can be used; nothing was written: {reasons}")
