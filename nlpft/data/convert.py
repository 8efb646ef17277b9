"""Corpus files -> a tokenized dataset on disk, with a ledger in which every row is accounted for."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa

from nlpft import plugins
from nlpft.data import store
from nlpft.data.columns import int32, strings, values
from nlpft.data.ledger import Ledger, file_of
from nlpft.data.read import Bad, file_bytes, read
from nlpft.data.tokenize import check_prompt, tokenize
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import DataError, RowRejected
from nlpft.files import whole_folder
from nlpft.templates._chat import ChatTemplate
from nlpft.types import IGNORE, Conversation, Message, Record, Segment

BATCH = 2_000  # conversations that are tokenized together: enough for the encoder's threads, little memory


@dataclass(frozen=True)
class Options:
    """What decides how a row becomes tokens."""

    format: str = "auto"
    template: str = "auto"
    max_length: int | None = None  # tokens; None: the model's context


def convert(
    files: Sequence[Path],
    output: Path,
    tokenizer: TextTokenizer,
    options: Options,
    *,
    model: str = "",
    overwrite: bool = False,
) -> Ledger:
    """Write the usable rows of `files` to `output`, with `ledger.json` and `rejected.jsonl` beside them.

    Raises DataError (nothing is written) where a file cannot be read or no row at all can be used.
    """
    ledger = Ledger()
    template = tokenizer.chat_template(options.template)
    check_prompt(template, tokenizer)
    limit = options.max_length or tokenizer.context
    with whole_folder(output, overwrite) as folder:
        rows = conversations(files, options.format, ledger)
        batches = _batches(rows, template, tokenizer, limit, ledger)
        store.write(folder, batches, _info(files, tokenizer, template, options, limit, model))
        if not ledger.kept:
            raise DataError(_nothing_kept(ledger))
        ledger.write(folder)
    return ledger


def conversations(files: Sequence[Path], format: str, ledger: Ledger) -> Iterator[Conversation]:
    """The usable conversations of `files`; the others go to the ledger with a reason."""
    for path in files:
        for record in read(path):
            ledger.read[str(path)] += 1
            if isinstance(record, Bad):
                ledger.reject(record.source, record.error, record.text)
                continue
            try:
                yield parse(record, format)
            except RowRejected as why:
                ledger.reject(record.source, why, record.data)


def parse(record: Record, format: str = "auto") -> Conversation:
    """One record as a conversation that a model can learn from. Raises RowRejected with the reason otherwise."""
    if not isinstance(record.data, dict):
        raise RowRejected("not an object", f"got {type(record.data).__name__}")
    module = detect(record.data) if format == "auto" else plugins.load("formats", format)
    messages = tuple(answers_only(module.parse(record.data)))
    if not any(m.learnt for m in messages):
        raise RowRejected("no answer", "there is no assistant's turn to learn from")
    if any(m.learnt and not m.content.strip() for m in messages):
        raise RowRejected("empty answer", "an assistant's turn has no text")
    return Conversation(messages, record.source)


def answers_only(messages: Sequence[Message]) -> Iterator[Message]:
    """`messages`, where an assistant's turn before any user's is context: it answers no question, so it is not learnt."""
    asked = False
    for message in messages:
        asked = asked or message.role in ("user", "tool")
        answers_nothing = message.role == "assistant" and message.train is None and not asked
        yield replace(message, train=False) if answers_nothing else message


def detect(record: dict) -> ModuleType:
    """The format whose keys `record` has. Raises RowRejected where none fits."""
    for name in plugins.names("formats"):
        module = plugins.load("formats", name)
        if module.matches(record):
            return module
    raise RowRejected(
        "unknown format", f"keys: {', '.join(map(str, record))}; known: {', '.join(plugins.names('formats'))}"
    )


def _batches(
    rows: Iterator[Conversation], template: ChatTemplate, tokenizer: TextTokenizer, limit: int | None, ledger: Ledger
) -> Iterator[pa.RecordBatch]:
    while batch := list(itertools.islice(rows, BATCH)):
        yield _batch(batch, template, tokenizer, limit, ledger)


def _batch(
    rows: list[Conversation], template: ChatTemplate, tokenizer: TextTokenizer, limit: int | None, ledger: Ledger
) -> pa.RecordBatch:
    """Tokenize `rows`; what the template refuses or is longer than `limit` tokens goes to the ledger."""
    rendered: list[tuple[Conversation, list[Segment]]] = []
    for row in rows:
        try:
            rendered.append((row, template.segments(row.messages)))
        except RowRejected as why:
            ledger.reject(row.source, why, _plain(row))
    batch = tokenize([segments for _, segments in rendered], template, tokenizer)
    lengths = values(batch.column("length"))
    fits = lengths <= (limit or lengths.max(initial=0))
    for (row, _), length in itertools.compress(zip(rendered, lengths, strict=True), ~fits):
        ledger.reject(row.source, RowRejected("too long", f"{length} tokens, max_length is {limit}"), _plain(row))
    batch = batch.append_column("source", strings([row.source for row, _ in rendered]))
    if not fits.all():
        batch = batch.take(int32(np.flatnonzero(fits)))
    _count(batch, ledger)
    return batch


def _count(batch: pa.RecordBatch, ledger: Ledger) -> None:
    for source in batch.column("source").to_pylist():
        ledger.kept[file_of(source)] += 1
    ledger.tokens += int(values(batch.column("length")).sum())
    ledger.learnt_tokens += int((values(batch.column("labels").flatten()) != IGNORE).sum())


def _plain(row: Conversation) -> dict:
    return {"messages": [m.as_dict() for m in row.messages]}


def _info(
    files: Sequence[Path],
    tokenizer: TextTokenizer,
    template: ChatTemplate,
    options: Options,
    limit: int | None,
    model: str,
) -> dict:
    """What the dataset was made from; its fingerprint covers the files' bytes and all that decides the tokens."""
    decided_by = {**asdict(options), "limit": limit, "template": template.hash, **template.tokens}
    digest = hashlib.sha256(json.dumps([decided_by, tokenizer.hash], sort_keys=True).encode())
    for path in files:
        digest.update(hashlib.sha256(file_bytes(path)).digest())
    return {
        "model": model,
        "files": [str(path) for path in files],
        "template": template.source,
        "template_hash": template.hash,
        "tokenizer_hash": tokenizer.hash,
        "max_length": limit,
        "fingerprint": digest.hexdigest()[:16],
    }


def _nothing_kept(ledger: Ledger) -> str:
    """Why no row could be used, with the first place of each reason."""
    first = {row["reason"]: row for row in reversed(ledger.rows)}
    lines = [
        f"  {count} x {reason}, first at {first[reason]['source']}"
        + (f" ({first[reason]['detail']})" if first[reason]["detail"] else "")
        for reason, count in ledger.reasons().most_common()
    ]
    return "\n".join([f"none of {ledger.read.total()} rows can be used; nothing was written", *lines])
