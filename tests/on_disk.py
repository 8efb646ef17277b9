"""Dataset folders written without a conversion, for the tests of what reads them."""

import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from nlpft.data import store
from nlpft.data.columns import strings
from nlpft.data.ledger import Ledger, Rejection
from nlpft.data.tokenize import tokenize
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import RowRejected
from nlpft.types import Message


class Chat(NamedTuple):
    """A row to write: turns by turns user's and assistant's."""

    source: str
    turns: tuple[str, ...]
    notes: tuple[str, ...] = ()


def batch(rows: list[Chat], model: Path) -> pa.RecordBatch:
    """`rows` in all columns of a dataset."""
    tokenizer = TextTokenizer(model)
    template = tokenizer.chat_template()
    roles = "user", "assistant"
    chats = [[Message(roles[i % 2], turn) for i, turn in enumerate(row.turns)] for row in rows]
    found = tokenize([template.segments(chat) for chat in chats], template, tokenizer)
    columns = [*found.columns, strings([row.source for row in rows]), strings(["; ".join(row.notes) for row in rows])]
    return pa.RecordBatch.from_arrays(columns, schema=store.SCHEMA)


def write(folder: Path, rows: list[Chat], rejected: list[Rejection], model: Path) -> Path:
    """A dataset of two shards with its ledger and rejected rows."""
    folder.mkdir(parents=True)
    parts = [folder / f"part{i}" for i in range(2)]
    for part, some in zip(parts, (rows[:1], rows[1:]), strict=True):
        store.write_part(part, [batch(some, model)])
    files = [row.source.rpartition(":")[0] for row in [*rows, *rejected]]
    info = {"model": str(model), "files": sorted(set(files)), "fingerprint": "f" * 16, "template": "{{ a < b }}"}
    store.assemble(folder, parts, info)
    write_ledger(folder, rows, rejected)
    return folder


def write_ledger(folder: Path, rows: list[Chat], rejected: list[Rejection]) -> None:
    ledger = Ledger()
    for row in rows:
        tally = ledger.files[row.source.rpartition(":")[0]]
        tally.rows_read += 1
        cut = any(note.startswith("truncated: ") for note in row.notes)
        tally.keep([note for note in row.notes if not note.startswith("truncated: ")], 7 * cut)
        tally.tokens += Counter(user=30, assistant=20, template=10)
    for rejection in rejected:
        tally = ledger.files[rejection.source.rpartition(":")[0]]
        tally.rows_read += 1
        tally.reject(rejection.why)
    ledger.write(folder)
    lines = [json.dumps(r.as_dict("mend it"), ensure_ascii=False) + "\n" for r in rejected]
    (folder / "rejected.jsonl").write_bytes("".join(lines).encode("utf-8", "backslashreplace"))


def refused(source: str, reason: str, detail: str = "", row: object = None) -> Rejection:
    return Rejection(source, 120, "id-7", RowRejected(reason, detail), row)
