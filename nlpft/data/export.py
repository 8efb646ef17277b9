"""Corpus files -> the same conversations in another format, as JSONL, with a ledger of what it could not hold."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nlpft import plugins
from nlpft.data import sources
from nlpft.data.conversation import Reading, conversation
from nlpft.data.ledger import Ledger, Rejection
from nlpft.data.read import check_whole
from nlpft.data.remedies import remedy
from nlpft.data.rows import Bad, rows
from nlpft.data.slices import CutOff, cut
from nlpft.errors import DataError, RowRejected, RunExists


def export(
    names: Sequence[str],
    output: Path,
    format: str,
    reading: Reading,
    overwrite: bool = False,
    allow_truncated: bool = False,
) -> dict[str, Any]:
    """Write the conversations of files to `output`, a row a line; returns the ledger's summary.

    `OUTPUT.ledger.json` and `OUTPUT.rejected.jsonl` lie beside it. Raises DataError (nothing is written) where a file cannot be
    read or no row can be used, RunExists where `output` is there already.
    """
    if output.exists() and not overwrite:
        raise RunExists(f"{output}: already there; choose another name or allow it by --overwrite")
    writer = plugins.load("formats", format)
    found = sources.find(list(names), reading.format)
    partial, rejected = (output.with_name(f".{output.name}.{kind}") for kind in ("partial", "rejected"))
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("wb") as out, rejected.open("w", encoding="utf-8", errors="backslashreplace") as left:
            ledger = _write(found, reading, writer, out, left, allow_truncated)
        os.replace(partial, output)
        os.replace(rejected, _beside(output, "rejected.jsonl"))
    finally:
        for path in (partial, rejected):
            path.unlink(missing_ok=True)
    summary = ledger.summary()
    _beside(output, "ledger.json").write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return summary


def _write(found: Sequence[Any], reading: Reading, writer: Any, out: Any, left: Any, allow_truncated: bool) -> Ledger:
    ledger, cut_off = Ledger(), CutOff()
    for piece in (piece for source in found for piece in cut(source, cut_off)):
        tally = ledger.files[piece.name]
        read = rows(piece)
        for i, record in enumerate(read.records):
            tally.rows_read += 1
            try:
                if isinstance(record, Bad):
                    raise record.error
                row = conversation(record, reading, i in read.suspect)
                line = json.dumps(writer.write(row), ensure_ascii=False)
            except RowRejected as why:
                data = record.text if isinstance(record, Bad) else record.data
                name = str(data.get("id", "")) if isinstance(data, dict) else ""
                rejection = Rejection(record.source, record.offset, name, why, data)
                left.write(json.dumps(rejection.as_dict(remedy(why.reason)), ensure_ascii=False) + "\n")
                tally.reject(why)
                continue
            out.write(line.encode() + b"\n")
            tally.keep(row.notes)
    if not allow_truncated:
        check_whole(cut_off)
    if not ledger.total.outcomes.total() - ledger.total.outcomes["rejected"]:
        reasons = ", ".join(f"{count} x {why}" for why, count in ledger.total.rejections.most_common())
        raise DataError(f"none of {ledger.total.rows_read} rows can be used; nothing was written: {reasons}")
    return ledger


def _beside(output: Path, name: str) -> Path:
    return output.with_name(f"{output.name}.{name}")
