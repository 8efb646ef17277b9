"""One slice of a corpus -> a part of the dataset and of the ledger. This is what worker processes do.

A part is a dataset's rows (an Arrow stream for each split), its rejected rows and, written last, its counts: so a part that has
its counts is whole, and a conversion that was killed goes on behind it.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from nlpft.data import prove, store, truncate
from nlpft.data.columns import int32, strings, values
from nlpft.data.conversation import as_text, conversation
from nlpft.data.ledger import Rejection, Tally
from nlpft.data.options import Options
from nlpft.data.parity import Parity
from nlpft.data.remedies import remedy
from nlpft.data.rows import Bad, rows
from nlpft.data.select.route import NO_COPY, Route
from nlpft.data.slices import Slice
from nlpft.data.tokenize import Planner, Row, Tokens, classes, encode
from nlpft.data.tokenizer import TextTokenizer
from nlpft.data.truncate import Shortened
from nlpft.errors import RowRejected
from nlpft.types import IGNORE, Conversation, Record

NO_TOOLS = "template has no place for tools"
SAMPLE = 8  # rows of a part whose prompts are compared with those that are served


@dataclass(frozen=True)
class Job:
    """All that decides how a slice becomes a part."""

    tokenizer: TextTokenizer
    options: Options
    limit: int  # tokens of the longest row
    parts: Path  # the folder that parts are written to
    route: Route = Route()


class Entry(NamedTuple):
    """A conversation on its way into the dataset."""

    conversation: Conversation
    record: int  # its number in the slice
    notes: tuple[str, ...] = ()
    lost: int = 0  # tokens, by truncation
    row: Row | None = None


class Done(NamedTuple):
    """Entries with their tokens."""

    entries: list[Entry]
    tokens: Tokens


@dataclass
class Part:
    """What became of a slice."""

    name: str  # of the file
    tally: Tally = field(default_factory=Tally)
    splits: dict[str, int] = field(default_factory=dict)  # split -> rows
    parity: Parity = field(default_factory=Parity)


def converter(job: Job) -> Callable[[int, Slice, Mapping[int, RowRejected]], Part]:
    """What turns slices into parts, for `spread`."""
    return Worker(job).convert


class Worker:
    """Turns slices into parts. One in each process: it keeps the tokenizer, the template and the plans."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.planner = Planner(job.tokenizer.chat_template(job.options.template), job.tokenizer)

    def convert(self, number: int, piece: Slice, dropped: Mapping[int, RowRejected]) -> Part:
        """Part `number` of `piece`, whose rows `dropped` (by number in the slice) are left out for a reason.

        What an earlier conversion has finished is not made again.
        """
        known = finished(self.job.parts, number)
        if known is not None:
            return known
        read = rows(piece)
        desk = _Desk(Part(piece.name), read.records)
        desk.part.tally.rows_read = len(read.records)
        entries = list(self._conversations(desk, read.suspect, dropped))
        done = self._fit(desk, self._encode(desk, entries))
        batches = self._batches(desk, done)
        write(self.job.parts, number, batches, desk)
        return desk.part

    def _conversations(
        self, desk: "_Desk", suspect: set[int], dropped: Mapping[int, RowRejected]
    ) -> Iterator[Entry]:
        options = self.job.options
        for i, record in enumerate(desk.records):
            try:
                if isinstance(record, Bad):
                    raise record.error
                if i in dropped:
                    raise dropped[i]
                found = conversation(record, options, i in suspect)
                if not self.job.route.copies(found, desk.part.name):
                    raise RowRejected(NO_COPY)
            except RowRejected as why:
                desk.reject(i, why)
                continue
            yield Entry(found, i, found.notes)

    def _encode(self, desk: "_Desk", entries: Sequence[Entry]) -> list[Done]:
        """Entries with their tokens, proven; what cannot be rendered or proven is rejected."""
        planned = [entry for entry in (self._planned(desk, entry) for entry in entries) if entry]
        if not planned:
            return []
        found = [entry.row for entry in planned]
        tokens = encode(found, self.job.tokenizer)
        wrong = self._unproven(tokens, found)
        if not wrong:
            return [Done(planned, tokens)]
        good = np.ones(len(planned), bool)
        good[list(wrong)] = False
        again = self._exactly(desk, [planned[i] for i in sorted(wrong)])
        return [Done([e for i, e in enumerate(planned) if good[i]], tokens.where(good, found)), *again]

    def _planned(self, desk: "_Desk", entry: Entry) -> Entry | None:
        found = entry.conversation
        try:
            try:
                return entry._replace(row=self.planner.conversation(found))
            except RowRejected as why:
                if why.reason != NO_TOOLS or self.job.options.tools != "auto":
                    raise
                told = as_text(found)
                return Entry(told, entry.record, told.notes, entry.lost, self.planner.conversation(told))
        except RowRejected as why:
            desk.reject(entry.record, why)
            return None

    def _unproven(self, tokens: Tokens, found: Sequence[Row]) -> dict[int, str]:
        if self.job.options.prove == "all":
            return prove.unproven(tokens, found, self.job.tokenizer)
        few = np.zeros(len(found), bool)
        few[:: max(1, len(found) // 50)] = True
        chosen = np.flatnonzero(few).tolist()
        wrong = prove.unproven(tokens.where(few, found), [found[i] for i in chosen], self.job.tokenizer)
        return {chosen[i]: why for i, why in wrong.items()}

    def _exactly(self, desk: "_Desk", entries: list[Entry]) -> list[Done]:
        """Entries that the fast engine has not encoded faithfully, by the reference; rejected if that does not help."""
        found = [entry.row for entry in entries]
        tokens = encode(found, self.job.tokenizer, exactly=True)
        wrong = prove.unproven(tokens, found, self.job.tokenizer)
        good = np.ones(len(found), bool)
        kept = []
        for i, entry in enumerate(entries):
            why = wrong.get(i, "")
            if why == prove.LOST_BYTES and self.job.options.repairs.lost_bytes:
                kept.append(entry._replace(notes=(*entry.notes, why)))
            elif why:
                good[i] = False
                desk.reject(entry.record, RowRejected(why))
            else:
                kept.append(entry)
        return [Done(kept, tokens.where(good, found))] if kept else []

    def _fit(self, desk: "_Desk", done: list[Done]) -> list[Done]:
        """The same, with rows over the limit shortened or rejected."""
        out = []
        for entries, tokens in done:
            raw = np.fromiter((bool(entry.conversation.text) for entry in entries), bool, len(entries))
            fits = raw | (tokens.lengths <= self.job.limit)  # raw text is not shortened but split
            if fits.all():
                out.append(Done(entries, tokens))
                continue
            found = [entry.row for entry in entries]
            out.append(Done([e for i, e in enumerate(entries) if fits[i]], tokens.where(fits, found)))
            long = np.flatnonzero(~fits).tolist()
            out += self._shortened(desk, [entries[i] for i in long], tokens.lengths[long].tolist())
        return out

    def _shortened(self, desk: "_Desk", entries: list[Entry], lengths: list[int]) -> list[Done]:
        found = truncate.shorten(
            [e.conversation for e in entries], lengths, self.job.limit, self.job.options, self._measure
        )
        short = []
        for entry, length, result in zip(entries, lengths, found, strict=True):
            if isinstance(result, Shortened):
                lost = length - result.tokens
                short.append(Entry(result.conversation, entry.record, entry.notes, lost))
            else:
                desk.reject(entry.record, result)
        return self._encode(desk, short)

    def _measure(self, versions: Sequence[Conversation]) -> list[int | RowRejected]:
        """Tokens of each conversation, or why it cannot be rendered."""
        out: list[Any] = []
        for version in versions:
            try:
                out.append(self.planner.conversation(version))
            except RowRejected as why:
                out.append(why)
        lengths = iter(encode([row for row in out if isinstance(row, Row)], self.job.tokenizer).lengths.tolist())
        return [next(lengths) if isinstance(row, Row) else row for row in out]

    def _batches(self, desk: "_Desk", done: list[Done]) -> dict[str, pa.RecordBatch]:
        """The part's rows by split, in the order they were read."""
        if not done:
            return {}
        self._count(desk.part, done)
        done = [split_raw(one, self.job.limit) for one in done]
        entries = [entry for one in done for entry in one.entries]
        batch = _joined([one.tokens.batch() for one in done])
        records = desk.records
        batch = batch.append_column("source", strings([records[e.record].source for e in entries]))
        batch = batch.append_column("notes", strings(["; ".join(_all_notes(e)) for e in entries]))
        if len(done) > 1:
            order = np.argsort([e.record for e in entries], kind="stable")
            batch, entries = batch.take(int32(order)), [entries[i] for i in order.tolist()]
        desk.part.parity.check(list(_samples(entries, batch)), self.planner)
        return self._routed(desk.part, batch, entries)

    def _count(self, part: Part, done: list[Done]) -> None:
        for entries, tokens in done:
            for entry in entries:
                part.tally.keep(entry.notes, entry.lost)
            part.tally.tokens.update(classes(tokens, [entry.row for entry in entries]))
            part.tally.learnt_tokens += int(np.count_nonzero(tokens.labels != IGNORE))

    def _routed(self, part: Part, batch: pa.RecordBatch, entries: Sequence[Entry]) -> dict[str, pa.RecordBatch]:
        part.tally.extra_rows += len(entries) - len({entry.record for entry in entries})
        places = self.job.route.places([e.conversation for e in entries], part.name)
        part.tally.extra_rows += sum(map(len, places.values())) - len(entries)
        part.splits = {split: len(numbers) for split, numbers in places.items()}
        if list(part.splits.values()) == [len(entries)]:
            return dict.fromkeys(part.splits, batch)
        return {split: batch.take(int32(np.array(numbers))) for split, numbers in places.items()}


@dataclass
class _Desk:
    """What is known of a slice while it is worked on."""

    part: Part
    records: Sequence[Record | Bad]
    rejections: dict[int, Rejection] = field(default_factory=dict)  # by number of the row

    def reject(self, number: int, why: RowRejected) -> None:
        record = self.records[number]
        data = record.text if isinstance(record, Bad) else record.data
        name = str(data.get("id", "")) if isinstance(data, dict) else ""
        self.rejections[number] = Rejection(record.source, record.offset, name, why, data)
        self.part.tally.reject(why)


def write(folder: Path, number: int, batches: Mapping[str, pa.RecordBatch], desk: _Desk) -> None:
    """Write part `number`: its rows, its rejected rows, and last its counts, each under its name only when it is whole."""
    for split, batch in batches.items():
        _whole(part_path(folder, number, split), lambda path, batch=batch: store.write_part(path, [batch]))
    if desk.rejections:
        in_order = [rejection for _, rejection in sorted(desk.rejections.items())]
        lines = [json.dumps(r.as_dict(remedy(r.why.reason)), ensure_ascii=False) + "\n" for r in in_order]
        text = "".join(lines).encode("utf-8", "backslashreplace")
        _whole(rejected_path(folder, number), lambda path: path.write_bytes(text))
    part = desk.part
    counts = {"name": part.name, "tally": part.tally.as_json(), "splits": part.splits, "parity": vars(part.parity)}
    _whole(counts_path(folder, number), lambda path: path.write_text(json.dumps(counts), encoding="utf-8"))


def finished(folder: Path, number: int) -> Part | None:
    """Part `number`, if an earlier conversion has finished it."""
    try:
        counts = json.loads(counts_path(folder, number).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Part(counts["name"], Tally.from_json(counts["tally"]), counts["splits"], Parity(**counts["parity"]))


def part_path(folder: Path, number: int, split: str) -> Path:
    return folder / f"{number:06d}{f'-{split}' if split else ''}.arrow"


def rejected_path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.rejected.jsonl"


def counts_path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.json"


def _whole(path: Path, make: Any) -> None:
    partial = path.with_name(f"{path.name}.partial")
    make(partial)
    os.replace(partial, path)


def split_raw(done: Done, limit: int) -> Done:
    """The same tokens, where raw text longer than `limit` makes several rows."""
    lengths = done.tokens.lengths
    pieces = np.array([-(-n // limit) if e.conversation.text else 1 for e, n in zip(done.entries, lengths, strict=True)])
    if (pieces <= 1).all():
        return done
    starts = [np.arange(count) * limit + start for count, start in zip(pieces, done.tokens.offsets, strict=False)]
    offsets = np.concatenate([*starts, done.tokens.offsets[-1:]])
    return Done([e for e, n in zip(done.entries, pieces, strict=True) for _ in range(n)], done.tokens._replace(offsets=offsets))


def _joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _all_notes(entry: Entry) -> tuple[str, ...]:
    return (*entry.notes, f"truncated: {entry.lost} tokens lost") if entry.lost else entry.notes


def _samples(entries: Sequence[Entry], batch: pa.RecordBatch) -> Iterator[tuple[Conversation, np.ndarray]]:
    """Some rows with their ids, evenly spread."""
    ids = batch.column("input_ids")
    for i in range(0, len(entries), max(1, -(-len(entries) // SAMPLE))):
        yield entries[i].conversation, values(ids[i].values)
