"""One slice of a corpus -> a part of the dataset and of the ledger. This is what worker processes do."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from nlpft.data import parts, prove, truncate
from nlpft.data.columns import int32, strings, values
from nlpft.data.conversation import as_text
from nlpft.data.ledger import Rejection
from nlpft.data.options import Options
from nlpft.data.parts import Part, Sample
from nlpft.data.reading import read_conversations
from nlpft.data.rejection import rejection
from nlpft.data.rows import Bad
from nlpft.data.select.route import NO_COPY, Route
from nlpft.data.slices import Slice
from nlpft.data.sources import Source
from nlpft.data.tokenize import TEMPLATE, Planner, Row, Tokens, classes, encode
from nlpft.data.tokenizer import TextTokenizer
from nlpft.data.truncate import Shortened
from nlpft.errors import RowRejected
from nlpft.formats._fields import Columns
from nlpft.templates._rowwise import NO_TOOLS
from nlpft.types import IGNORE, Conversation, Record

SAMPLE, FIRST_SAMPLE = 1, 16  # rows of a part, of the first part, that are compared with what `tokenizers` gives
LONGEST_SAMPLE = 1_024  # tokens; `tokenizers` is slow


@dataclass(frozen=True)
class Job:
    """All that decides how a slice becomes a part."""

    tokenizer: TextTokenizer
    options: Options
    limit: int  # tokens of the longest row
    parts: Path  # the folder that parts are written to
    route: Route = Route()
    benchmarks: tuple[Source, ...] = ()  # files whose items are not to be learnt


class Entry(NamedTuple):
    """A conversation on its way into the dataset."""

    conversation: Conversation
    record: int  # its number in the slice
    key: int  # of the conversation as it was read: it decides the split
    notes: tuple[str, ...] = ()
    lost: int = 0  # tokens, by truncation


class Planned(NamedTuple):
    """An entry, rendered."""

    conversation: Conversation
    record: int
    key: int
    notes: tuple[str, ...]
    lost: int
    row: Row


class Done(NamedTuple):
    """Entries with their tokens."""

    entries: list[Planned]
    tokens: Tokens


def converter(job: Job) -> Callable[[int, Slice, Mapping[int, RowRejected]], Part]:
    """What turns slices into parts, for `spread`."""
    return Worker(job).convert


class Worker:
    """Turns slices into parts. One in each process: it keeps the tokenizer, the template and the plans."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.planner = Planner(job.tokenizer.chat_template(job.options.written_by), job.tokenizer)

    def convert(self, number: int, piece: Slice, dropped: Mapping[int, RowRejected]) -> Part:
        """Part `number` of `piece`, whose rows `dropped` (by number in the slice) are left out for a reason.

        What an earlier conversion has finished is not made again.
        """
        known = parts.finished(self.job.parts, number)
        if known is not None:
            return known
        desk = _Desk(Part(piece.name))
        entries = list(self._entries(desk, piece, dropped))
        desk.part.tally.rows_read = len(desk.records)
        done = self._fit(desk, self._encode(desk, entries))
        batches = self._batches(desk, done, SAMPLE if number else FIRST_SAMPLE)
        rejections = [rejection for _, rejection in sorted(desk.rejections.items())]
        parts.write(self.job.parts, number, desk.part, batches, rejections)
        return desk.part

    def usable(self, piece: Slice) -> list[tuple[int, Conversation]]:
        """The rows that would be in the dataset, by number in the slice, as they were read."""
        desk = _Desk(Part(piece.name))
        entries = list(self._entries(desk, piece, {}))
        done = self._fit(desk, self._encode(desk, entries))
        there = {entry.record for one in done for entry in one.entries}
        return [(entry.record, entry.conversation) for entry in entries if entry.record in there]

    def _entries(self, desk: "_Desk", piece: Slice, dropped: Mapping[int, RowRejected]) -> Iterator[Entry]:
        options, route = self.job.options, self.job.route
        for i, record, found in read_conversations(piece, options):
            desk.records.append(record)
            found = dropped.get(i, found)
            key = 0 if isinstance(found, RowRejected) else route.key(found, piece.name)
            if not route.copies(key, piece.name) and not isinstance(found, RowRejected):
                found = RowRejected(NO_COPY)
            if isinstance(found, RowRejected):
                desk.reject(i, found, options.columns)
            else:
                yield Entry(found, i, key, found.notes)

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

    def _planned(self, desk: "_Desk", entry: Entry) -> Planned | None:
        found = entry.conversation
        try:
            try:
                return Planned(*entry, self.planner.planned(found))
            except RowRejected as why:
                if why.reason != NO_TOOLS or self.job.options.tools != "auto":
                    raise
                told = as_text(found)
                entry = entry._replace(conversation=told, notes=told.notes)
                return Planned(*entry, self.planner.planned(told))
        except RowRejected as why:
            desk.reject(entry.record, why, self.job.options.columns)
            return None

    def _unproven(self, tokens: Tokens, found: Sequence[Row]) -> dict[int, str]:
        if self.job.options.prove == "all":
            return prove.unproven(tokens, found, self.job.tokenizer)
        few = np.zeros(len(found), bool)
        few[:: max(1, len(found) // 50)] = True
        chosen = np.flatnonzero(few).tolist()
        wrong = prove.unproven(tokens.where(few, found), [found[i] for i in chosen], self.job.tokenizer)
        return {chosen[i]: why for i, why in wrong.items()}

    def _exactly(self, desk: "_Desk", entries: list[Planned]) -> list[Done]:
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
                desk.reject(entry.record, RowRejected(why), self.job.options.columns)
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

    def _shortened(self, desk: "_Desk", entries: list[Planned], lengths: list[int]) -> list[Done]:
        found = truncate.shorten(
            [e.conversation for e in entries], lengths, self.job.limit, self.job.options, self._measure
        )
        short = []
        for entry, length, result in zip(entries, lengths, found, strict=True):
            if isinstance(result, Shortened):
                lost = length - result.tokens
                short.append(Entry(result.conversation, entry.record, entry.key, entry.notes, lost))
            else:
                desk.reject(entry.record, result, self.job.options.columns)
        return self._fit(desk, self._encode(desk, short))

    def _measure(self, versions: Sequence[Conversation]) -> list[int | RowRejected]:
        """Tokens of each conversation, or why it cannot be rendered."""
        out: list[Any] = []
        for version in versions:
            try:
                out.append(self.planner.planned(version))
            except RowRejected as why:
                out.append(why)
        lengths = iter(encode([row for row in out if isinstance(row, Row)], self.job.tokenizer).lengths.tolist())
        return [next(lengths) if isinstance(row, Row) else row for row in out]

    def _batches(self, desk: "_Desk", done: list[Done], sample: int) -> dict[str, pa.RecordBatch]:
        """The part's rows by split, in the order they were read."""
        if not done:
            return {}
        self._count(desk.part, done)
        whole, done = done, [split_raw(one, self.job.limit) for one in done]
        repeated = sum(len(one.tokens.ids) for one in done) - sum(len(one.tokens.ids) for one in whole)
        desk.part.tally.tokens[TEMPLATE] += repeated  # what stands around a text that was split
        entries = [entry for one in done for entry in one.entries]
        batch = _joined([one.tokens.batch() for one in done])
        records = desk.records
        batch = batch.append_column("source", strings([records[e.record].source for e in entries]))
        batch = batch.append_column("notes", strings(["; ".join(_all_notes(e)) for e in entries]))
        if len(done) > 1:
            order = np.argsort([e.record for e in entries], kind="stable")
            batch, entries = batch.take(int32(order)), [entries[i] for i in order.tolist()]
        desk.part.samples = list(_samples(entries, batch, sample))
        return self._routed(desk.part, batch, entries)

    def _count(self, part: Part, done: list[Done]) -> None:
        for entries, tokens in done:
            for entry in entries:
                part.tally.keep(entry.notes, entry.lost)
            part.tally.tokens.update(classes(tokens, [entry.row for entry in entries]))
            part.tally.learnt_tokens += int(np.count_nonzero(tokens.labels != IGNORE))

    def _routed(self, part: Part, batch: pa.RecordBatch, entries: Sequence[Planned]) -> dict[str, pa.RecordBatch]:
        part.tally.extra_rows += len(entries) - len({entry.record for entry in entries})
        places = self.job.route.places([entry.key for entry in entries], part.name)
        part.tally.extra_rows += sum(map(len, places.values())) - len(entries)
        part.splits = {split: len(numbers) for split, numbers in places.items()}
        if list(part.splits.values()) == [len(entries)]:
            return dict.fromkeys(part.splits, batch)
        return {split: batch.take(int32(np.array(numbers))) for split, numbers in places.items()}


@dataclass
class _Desk:
    """What is known of a slice while it is worked on."""

    part: Part
    records: list[Record | Bad] = field(default_factory=list)
    rejections: dict[int, Rejection] = field(default_factory=dict)  # by number of the row

    def reject(self, number: int, why: RowRejected, columns: Columns) -> None:
        self.rejections[number] = rejection(self.records[number], why, columns)
        self.part.tally.reject(why)


def split_raw(done: Done, limit: int) -> Done:
    """The same tokens, where raw text longer than `limit` makes several rows; what stands around it, stands around each."""
    tokens, entries = done.tokens, []
    if not any(e.conversation.text and n > limit for e, n in zip(done.entries, tokens.lengths.tolist(), strict=True)):
        return done
    parts: list[np.ndarray] = []  # places in `tokens`, of each row to be
    for entry, start, end in zip(done.entries, tokens.offsets, tokens.offsets[1:], strict=False):
        whole = np.arange(start, end)
        cut = _pieces(whole, tokens.labels[start:end], limit) if entry.conversation.text else [whole]
        parts += cut
        entries += [entry] * len(cut)
    places = np.concatenate(parts)
    offsets = np.cumsum([0, *map(len, parts)])
    return Done(entries, tokens._replace(ids=tokens.ids[places], labels=tokens.labels[places], offsets=offsets))


def _pieces(row: np.ndarray, labels: np.ndarray, limit: int) -> list[np.ndarray]:
    """`row` in pieces of at most `limit`, each between the unlearnt tokens that the row begins and ends with."""
    if len(row) <= limit:
        return [row]
    learnt = np.flatnonzero(labels != IGNORE)
    first, last = int(learnt[0]), int(learnt[-1]) + 1
    size = limit - first - (len(row) - last)
    return [
        np.concatenate((row[:first], row[at : min(at + size, last)], row[last:])) for at in range(first, last, size)
    ]


def _joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _all_notes(entry: Planned) -> tuple[str, ...]:
    return (*entry.notes, f"truncated: {entry.lost} tokens lost") if entry.lost else entry.notes


def _samples(entries: Sequence[Planned], batch: pa.RecordBatch, count: int) -> Iterator[Sample]:
    """Some rows with their ids, evenly spread; none that is long, or a piece of a raw text."""
    ids = batch.column("input_ids")
    fit = [i for i, length in enumerate(values(batch.column("length")).tolist()) if length <= LONGEST_SAMPLE]
    fit = [i for i in fit if not entries[i].conversation.text]
    for i in fit[:: max(1, -(-len(fit) // count))]:
        yield Sample(entries[i].conversation, ids[i].as_py())
