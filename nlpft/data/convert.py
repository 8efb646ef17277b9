"""Corpus files -> a tokenized dataset on disk, with a ledger in which every row is accounted for.

Slices of the files become parts of the dataset side by side (work.py); this is what stands around it: what the dataset is
called by its content, whether it is already there, where to go on, and how the parts become one folder.
"""

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nlpft.data import first_pass, parts, sources, store, work
from nlpft.data.columns import values
from nlpft.data.first_pass import Dropped, Looker
from nlpft.data.identity import identity
from nlpft.data.ledger import Ledger, dataset_rows
from nlpft.data.options import Options
from nlpft.data.pack import pack
from nlpft.data.parity import InexactEngine, Parity, auditor
from nlpft.data.parts import Part
from nlpft.data.read import check_whole, read
from nlpft.data.rows import Bad
from nlpft.data.select import settings
from nlpft.data.select.contamination import item_texts
from nlpft.data.select.route import Route
from nlpft.data.slices import CutOff, Slice, cut
from nlpft.data.sources import Source
from nlpft.data.spread import beside, spread
from nlpft.data.tokenizer import TextTokenizer
from nlpft.data.work import Job
from nlpft.errors import DataError
from nlpft.files import locked, resumable_folder

SMALL = (
    2_000_000  # bytes of input; below, other processes and other engines than the reference cost more than they save
)
PACKED = 4  # bytes of text in a compressed byte, about
NO_LIMIT = 2**31 - 1
TIMED = 300_000  # characters of the corpus that engines are timed on

Progress = Callable[[int, int], Any]  # told how many bytes of the input are done, and of how many


@dataclass(frozen=True)
class Converted:
    """A dataset that is there."""

    folder: Path
    summary: dict[str, Any]  # what ledger.json holds
    hit: bool = False  # it had been there already


def convert(
    names: Sequence[str | Path],
    output: Path,
    tokenizer: TextTokenizer,
    options: Options | None = None,
    *,
    model: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Converted:
    """Write the usable rows of files, folders, globs or hub ids to `output`, with `ledger.json` and `rejected.jsonl`.

    The same call again finds the dataset by its fingerprint. Processes that are given the same output wait for the one that
    came first. Raises DataError (nothing is left behind) where a file cannot be read or no row at all can be used.
    """
    options = options or Options()
    found = sources.find([str(name) for name in names], options.format)
    splits, weights = settings.check(options, [source.name for source in found])
    route = Route(splits, weights, options.seed)
    benchmarks = sources.find(list(options.contamination), "auto")
    info = identity(found, benchmarks, tokenizer, tokenizer.chat_template(options.written_by), options, model)
    if known := _known(output, info, options):
        return known
    with locked(output):
        if known := _known(output, info, options):  # made by the process that this one has waited for
            return known
        with resumable_folder(output, info["fingerprint"], overwrite) as (new, folder):
            limit = options.max_length or tokenizer.context or NO_LIMIT
            job = Job(tokenizer, options, limit, folder, route, tuple(benchmarks))
            ledger, made = _run(found, job, progress or (lambda done, size: None))
            if not dataset_rows(ledger.total.summary()):
                raise DataError(_nothing_kept(ledger, folder, len(made)))
            _assemble(new, made, job, info, ledger)
    return Converted(output, ledger.summary())


def _known(output: Path, info: dict[str, Any], options: Options) -> Converted | None:
    """The dataset, if it is there as a whole. Raises DataError where it was made of a file cut off and that is not allowed."""
    if not store.is_whole(output, info["fingerprint"]):
        return None
    try:
        summary = json.loads((output / "ledger.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not options.allow_truncated:
        check_whole(CutOff(summary.get("cut_off", {})))
    return Converted(output, summary, hit=True)


def _run(found: Sequence[Source], job: Job, progress: Progress) -> tuple[Ledger, list[Part]]:
    """Make all parts. Raises DataError where a file is cut off and that is not allowed."""
    if not job.options.allow_truncated:
        _check_ends(found)
    count = _processes(found, job)
    while True:
        try:
            return _made(found, job, count, progress)
        except InexactEngine:
            job.tokenizer.distrust_engine()
            shutil.rmtree(job.parts)
            job.parts.mkdir()


def _made(found: Sequence[Source], job: Job, processes: int, progress: Progress) -> tuple[Ledger, list[Part]]:
    """As `_run`. Raises InexactEngine where a sample shows that the engine is."""
    ledger, parity, cut_off = Ledger(), Parity(), CutOff()
    made: list[Part] = []
    sizes: list[int] = []
    dropped = _left_out(found, job, processes)

    def tasks() -> Iterator[tuple[int, Slice, Dropped]]:
        for number, piece in enumerate(_slices(found, cut_off)):
            sizes.append(piece.size)
            yield number, piece, dropped[number] if dropped else {}

    with beside(auditor, job, processes) as audit:
        audits = [audit([])]
        for part in spread(work.converter, job, tasks(), processes):
            audits.append(audit(part.samples))
            part.samples = []
            ledger.files[part.name].add(part.tally)
            made.append(part)
            progress(sum(sizes[: len(made)]), max(sum(sizes), sum(map(_bytes, found))))
        for done in audits:
            parity.add(done.result())
    if not job.options.allow_truncated:
        check_whole(cut_off)
    ledger.facts |= {"prompts": parity.as_dict(), "engine": job.tokenizer.engine, "proven": job.options.prove}
    if cut_off.places:
        ledger.facts["cut_off"] = cut_off.places
    if wrapped := {source.name: source.key for source in found if source.key}:
        ledger.facts["rows_below_key"] = wrapped  # of the object that is all of the file
    return ledger, made


def _check_ends(found: Sequence[Source]) -> None:
    """Raise DataError where an array has no end: it can be seen before all of it has been converted."""
    for source in found:
        if source.kind == "array" and not source.compression and not _ends_in_bracket(source.path):
            cut_off = CutOff()
            for _ in cut(source, cut_off):
                pass
            check_whole(cut_off)


def _ends_in_bracket(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4_096))
        return file.read().rstrip()[-1:] in (b"]", b"}")


def _bytes(source: Source) -> int:
    """Of a file, about as they are unpacked."""
    return source.path.stat().st_size * (PACKED if source.compression else 1)


def _slices(found: Sequence[Source], cut_off: CutOff) -> Iterator[Slice]:
    return itertools.chain.from_iterable(cut(source, cut_off) for source in found)


def _processes(found: Sequence[Source], job: Job) -> int:
    """How many processes are worth it. Where the corpus is not small, the tokenizer's engine is chosen."""
    size = sum(map(_bytes, found))
    if size < SMALL:
        return 1
    count = job.options.workers or len(os.sched_getaffinity(0))
    job.tokenizer.choose_engine(size // count, lambda: _texts(found))
    return count


def _left_out(found: Sequence[Source], job: Job, processes: int) -> list[Dropped]:
    """By slice, the rows that are left out for what stands elsewhere; [] where none are looked for."""
    if not first_pass.is_needed(job.options):
        return []
    folder = job.parts.with_name("look")
    folder.mkdir(exist_ok=True)
    looker = Looker(job, first_pass.benchmark_index(job.benchmarks, job.options.contamination_words), folder)
    looks = list(spread(first_pass.looker, looker, enumerate(_slices(found, CutOff())), processes))
    return first_pass.decide(looks, job.options, folder)


def _texts(found: Sequence[Source]) -> list[str]:
    """Some text of the corpus, to time engines on."""
    texts, size = [], 0
    for record in (record for source in found for record in read(source, cut_off=CutOff())):
        for text in item_texts(record.text if isinstance(record, Bad) else record.data):
            texts.append(text)
            size += len(text)
            if size > TIMED:
                return texts
    return texts


def _assemble(new: Path, made: Sequence[Part], job: Job, info: dict[str, Any], ledger: Ledger) -> None:
    """The parts as one dataset, or one for each split, with the ledger beside it."""
    splits, packing = job.route.names, {}
    for split in splits:
        folder = new / split
        paths = [parts.part_path(job.parts, i, split) for i, part in enumerate(made) if part.splits.get(split)]
        store.assemble(folder, paths, info, split or None)
        packing[split or "all"] = _packing(folder, job.limit)
    if splits != [""]:
        store.write_splits(new, splits, info)
    total = ledger.total
    rows = sum(facts["rows"] for facts in packing.values())
    assert rows == dataset_rows(total.summary()) + total.extra_rows, "the shards do not hold the rows of the ledger"
    ledger.facts["packs"] = packing
    ledger.write(new)
    with (new / "rejected.jsonl").open("wb") as out:
        for path in sorted(job.parts.glob("*.rejected.jsonl")):
            with path.open("rb") as lines:
                shutil.copyfileobj(lines, out)


def _packing(folder: Path, limit: int) -> dict[str, Any]:
    """How well the rows fill packs of the longest length that a row may have."""
    try:
        column = store.read(folder).column("length")
    except DataError:
        return {"rows": 0, "tokens": 0, "packs": 0}
    lengths = np.concatenate([values(chunk) for chunk in column.chunks])
    facts = {"rows": len(lengths), "tokens": int(lengths.sum(dtype=np.int64))}
    if limit == NO_LIMIT:
        return facts
    count = len(pack(lengths, limit))
    return {**facts, "packs": count, "pack_length": limit, "fill": round(facts["tokens"] / (count * limit), 4)}


def _nothing_kept(ledger: Ledger, folder: Path, count: int) -> str:
    """Why no row could be used, with the first place of each reason."""
    first: dict[str, dict] = {}
    for number in range(count):
        path = parts.rejected_path(folder, number)
        for line in path.open(encoding="utf-8") if path.is_file() else ():
            row = json.loads(line)
            first.setdefault(row["reason"], row)
    total = ledger.total
    lines = [
        f"  {count} x {reason}, first at {first[reason]['source']}"
        + (f" ({first[reason]['detail']})" if first[reason]["detail"] else "")
        for reason, count in total.rejections.most_common()
    ]
    return "\n".join([f"none of {total.rows_read} rows can be used; nothing was written", *lines])
