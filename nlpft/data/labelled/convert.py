"""Labelled files -> a tokenized dataset for heads on disk, with a ledger in which every row is accounted for."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa

from nlpft.data import store
from nlpft.data.columns import int64
from nlpft.data.convert import Converted
from nlpft.data.identity import code
from nlpft.data.labelled import classification, inputs, readers, splits, table, tagging
from nlpft.data.labelled.batch import Batch, taken
from nlpft.data.labelled.copies import with_copies
from nlpft.data.labelled.encode import limit
from nlpft.data.labelled.example import Example, Row
from nlpft.data.labelled.inputs import Input
from nlpft.data.labelled.keys import text_key
from nlpft.data.labelled.labels import UNSEEN
from nlpft.data.labelled.options import LabelOptions
from nlpft.data.labelled.rows import Rows
from nlpft.data.ledger import Ledger, Rejection
from nlpft.data.remedies import remedy
from nlpft.data.sources import digest_of
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import DataError, some
from nlpft.files import locked, whole_folder

LARGE = 2_000_000  # characters, from which on another engine than the reference saves more than it costs


def convert(
    names: Sequence[str],
    output: Path,
    tokenizer: TextTokenizer,
    options: LabelOptions | None = None,
    *,
    model: str = "",
    overwrite: bool = False,
) -> Converted:
    """Write the usable rows of labelled files to `output`, one dataset or one for each split (table.py: its columns).

    names: FILE, SPLIT=FILE, globs, folders. The same call again finds the dataset by its fingerprint. Raises DataError (nothing
    is left behind) where a file cannot be read, its columns or labels make no task, or no row at all can be used.
    """
    options = options or LabelOptions()
    found = inputs.find(names)
    splits.check([one.split for one in found], options)
    longest = limit(tokenizer, options.max_length)
    info = _identity(found, tokenizer, options, model, longest)
    with locked(output):
        if store.is_whole(output, info["fingerprint"]):
            return Converted(output, store.facts(output), hit=True)
        rows = _read(found, options)
        _engine(rows, tokenizer)
        with whole_folder(output, overwrite) as new:
            return Converted(output, _write(new, rows, tokenizer, options, info))


def _identity(
    found: Sequence[Input], tokenizer: TextTokenizer, options: LabelOptions, model: str, longest: int | None
) -> dict[str, Any]:
    """What the dataset is made from; its fingerprint covers the files' bytes and all that decides the rows."""
    names = [one.name for one in found]
    facts = [asdict(options), longest, tokenizer.hash, code(), names, [one.split for one in found]]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=repr).encode())
    for path in (path for one in found for path in inputs.files(one)):
        digest.update(digest_of(path).encode())
    fingerprint = digest.hexdigest()[:16]
    return {
        "model": model,
        "files": names,
        "tokenizer_hash": tokenizer.hash,
        "max_length": longest,
        "fingerprint": fingerprint,
    }


def _read(found: Sequence[Input], options: LabelOptions) -> Rows:
    """All rows of all files."""
    reads = [readers.read(one, options) for one in found]
    rows = [row for read in reads for row in read.rows]
    files = [read.name for read in reads for _ in read.rows]
    of = [one.split for one, read in zip(found, reads, strict=True) for _ in read.rows]
    keys = [text_key(row) if isinstance(row, Example) else 0 for row in rows]
    how = {read.name: read.how for read in reads if read.how}
    return Rows(rows, files, of, keys, {"read_as": how} if how else {})


def _task(rows: Rows) -> ModuleType:
    """The module of the rows' task. Raises DataError where some have labels and others tags."""
    first = {bool(row.words): row.source for row in reversed(rows.examples)}
    if len(first) == 2:
        raise DataError(f"{first[True]}: words with tags, but {first[False]}: a text with a label; name the --task")
    return tagging if True in first else classification


def _engine(rows: Rows, tokenizer: TextTokenizer) -> None:
    """Where there is much text, take the fastest engine that is exact."""
    texts = [" ".join(row.words) or f"{row.text} {row.pair or ''}" for row in rows.examples]
    size = sum(map(len, texts))
    if size > LARGE:
        tokenizer.choose_engine(size, lambda: texts[:500])


def _write(
    new: Path, rows: Rows, tokenizer: TextTokenizer, options: LabelOptions, info: dict[str, Any]
) -> dict[str, Any]:
    """The dataset of `rows` in the folder `new`; returns its ledger's summary."""
    task = _task(rows)
    if options.splits:
        rows = splits.drawn(rows, task.strata(rows.examples, options), options)
    train = splits.training(rows.names)
    meaning = task.learn(rows.of(train), options, _files(rows, train))
    rows = rows.with_rows([task.resolved(row, meaning) if isinstance(row, Example) else row for row in rows.rows])
    _check_unseen(rows, options)
    read = len(rows.rows)
    rows = with_copies(splits.selected(rows, train, options), train, options)
    batch = task.encoded(rows.examples, meaning, tokenizer, info["max_length"])
    kept, after = _judged(rows, batch)
    after.examples  # noqa: B018 - raises where no row is left
    ledger = _ledger(after, read, batch, kept, tokenizer)
    ledger.facts |= {"problem_type": meaning.problem_type, "label_counts_by_split": _counts(after, meaning)}
    _store(new, after, batch, kept, {**info, **meaning.info()}, meaning)
    ledger.write(new)
    _write_rejected(new / "rejected.jsonl", after)
    return ledger.summary()


def _files(rows: Rows, split: str) -> str:
    """Names of a split's files, for a message."""
    return some(list(dict.fromkeys(name for name, own in zip(rows.files, rows.splits, strict=True) if own == split)), 3)


def _counts(rows: Rows, meaning: Any) -> dict[str, Any]:
    return {split or "all": meaning.counts(rows.of(split)) for split in rows.names}


def _check_unseen(rows: Rows, options: LabelOptions) -> None:
    """Raise DataError where labels that the training split lacks are to be an error."""
    lost = [row for row in rows.rows if isinstance(row, Rejection) and row.why.reason == UNSEEN]
    if lost and options.unseen == "error":
        names = some(list(dict.fromkeys(row.why.detail for row in lost)), 5)
        raise DataError(f"{lost[0].source}: {UNSEEN}: {names}; --unseen reject leaves such rows out ({len(lost)} here)")


def _judged(rows: Rows, batch: Batch) -> tuple[dict[int, int], Rows]:
    """Which row of the batch each row of the dataset is, by its number, and the rows with what encoding found out."""
    out: list[Row] = list(rows.rows)
    kept: dict[int, int] = {}
    for place, number in enumerate(rows.numbers):
        row = out[number]
        assert isinstance(row, Example)
        if place in batch.bad:
            out[number] = row.reject(*batch.bad[place])
        else:
            kept[number] = place
            out[number] = row._replace(notes=(*row.notes, *batch.notes.get(place, ())))
    return kept, rows.with_rows(out)


def _ledger(rows: Rows, read: int, batch: Batch, kept: dict[int, int], tokenizer: TextTokenizer) -> Ledger:
    """What became of each row, and of the tokens; behind the first `read` rows come changed copies."""
    ledger = Ledger(facts={**rows.facts, "engine": tokenizer.engine, "proven": "all"})
    lengths = np.diff(batch.offsets)
    for number, (row, file) in enumerate(zip(rows.rows, rows.files, strict=True)):
        tally = ledger.files[file]
        tally.rows_read += number < read
        if number in kept:
            tally.tokens["text"] += int(lengths[kept[number]])
        if number >= read:
            tally.extra_rows += number in kept
        elif isinstance(row, Rejection):
            tally.reject(row.why)
        else:
            tally.keep(row.notes, int(batch.lost[kept[number]]))
    return ledger


def _store(new: Path, rows: Rows, batch: Batch, kept: dict[int, int], info: dict[str, Any], meaning: Any) -> None:
    """The columns of each split as a dataset."""
    schema = table.schema(meaning.problem_type)
    names = rows.names
    for split in names:
        numbers = [i for i in rows.numbers if rows.splits[i] == split]
        part = new / f".{split}.part"
        store.write_part(part, [_columns(rows, batch, kept, numbers, meaning.problem_type)], schema)
        counted = {**info, "label_counts": meaning.counts(rows.of(split))}
        store.assemble(new / split, [part], counted, split or None, schema)
        part.unlink()
    if names != [""]:
        store.write_splits(new, names, info)


def _columns(
    rows: Rows, batch: Batch, kept: dict[int, int], numbers: Sequence[int], problem_type: str
) -> pa.RecordBatch:
    """Some rows, given by their numbers, as Arrow columns."""
    places = np.array([kept[number] for number in numbers], np.int64)
    ids, offsets = taken(batch.ids, batch.offsets, places)
    keys = np.array([rows.keys[number] for number in numbers], np.uint64)
    examples = [row for row in map(rows.rows.__getitem__, numbers) if isinstance(row, Example)]
    said = [(row.source, _notes(row, lost)) for row, lost in zip(examples, batch.lost[places].tolist(), strict=True)]
    target = batch.target.take(int64(places))
    return table.batch(problem_type, ids, offsets, said, batch.pair_start[places], keys, target)


def _notes(row: Example, lost: int) -> str:
    return "; ".join([*row.notes, *[f"truncated: {lost} tokens lost"] * bool(lost)])


def _write_rejected(path: Path, rows: Rows) -> None:
    lost = [row for row in rows.rows if isinstance(row, Rejection)]
    lines = [json.dumps(row.as_dict(remedy(row.why.reason)), ensure_ascii=False, default=str) + "\n" for row in lost]
    path.write_bytes("".join(lines).encode("utf-8", "backslashreplace"))
