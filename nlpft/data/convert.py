"""Corpus files -> a tokenized dataset on disk, with a ledger in which every row is accounted for.

Slices of the files become parts of the dataset side by side (work.py); this is what stands around it: what the dataset is
called by its content, whether it is already there, where to go on, and how the parts become one folder.
"""

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import nlpft
from nlpft.data import first_pass, sources, store, work
from nlpft.data.columns import values
from nlpft.data.first_pass import Dropped, Looker
from nlpft.data.ledger import Ledger, dataset_rows
from nlpft.data.options import Options
from nlpft.data.pack import pack
from nlpft.data.parity import Parity, check_served
from nlpft.data.read import check_whole
from nlpft.data.rows import Bad, rows
from nlpft.data.select import settings
from nlpft.data.select.contamination import item_texts
from nlpft.data.select.route import Route
from nlpft.data.slices import CutOff, Slice, cut
from nlpft.data.sources import Source
from nlpft.data.spread import spread
from nlpft.data.tokenize import Planner
from nlpft.data.tokenizer import TextTokenizer
from nlpft.data.work import Job, Part
from nlpft.errors import DataError
from nlpft.files import cache_dir, locked, resumable_folder
from nlpft.templates._chat import ChatTemplate

SMALL = 2_000_000  # bytes of input; below, other processes and other engines than the reference cost more than they save
PACKED = 4  # bytes of text in a compressed byte, about
NO_LIMIT = 2**31 - 1
TIMED = 300_000  # characters of the corpus that engines are timed on
CODE = ("data", "formats", "templates")  # folders whose files decide what a row becomes

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
    options: Options = Options(),
    *,
    model: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Converted:
    """Write the usable rows of files, folders, globs or hub ids to `output`, with `ledger.json` and `rejected.jsonl`.

    The same call again finds the dataset by its fingerprint. Processes that are given the same output wait for the one that
    came first. Raises DataError (nothing is left behind) where a file cannot be read or no row at all can be used.
    """
    found = sources.find([str(name) for name in names], options.format)
    splits, weights = settings.check(options, [source.name for source in found])
    route = Route(splits, weights, options.seed)
    template = tokenizer.chat_template(options.template)
    info = _info(found, tokenizer, template, options, model)
    with locked(output):
        if store.is_whole(output, info["fingerprint"]):
            return Converted(output, json.loads((output / "ledger.json").read_text(encoding="utf-8")), hit=True)
        with resumable_folder(output, info["fingerprint"], overwrite) as (new, parts):
            check_served(Planner(template, tokenizer), cache_dir())
            limit = options.max_length or tokenizer.context or NO_LIMIT
            job = Job(tokenizer, options, limit, parts, route)
            ledger, whole = _run(found, job, options, progress or (lambda done, size: None))
            if not dataset_rows(ledger.total.summary()):
                raise DataError(_nothing_kept(ledger, parts, len(whole)))
            _assemble(new, whole, job, info, ledger)
    return Converted(output, ledger.summary())


def _run(found: Sequence[Source], job: Job, options: Options, progress: Progress) -> tuple[Ledger, list[Part]]:
    """Make all parts. Raises DataError where a file is cut off and that is not allowed."""
    ledger, parity, parts, done = Ledger(), Parity(), [], 0
    cut_off, sizes, size = CutOff(), [], sum(map(_bytes, found))
    processes = _processes(found, options, job)
    dropped = _left_out(found, job, options, processes)

    def tasks() -> Iterator[tuple[int, Slice, Dropped]]:
        for number, piece in enumerate(_slices(found, options, cut_off)):
            sizes.append(piece.size)
            yield number, piece, dropped[number] if dropped else {}

    for part in spread(work.converter, job, tasks(), processes):
        ledger.files[part.name].add(part.tally)
        parity.add(part.parity)
        done += sizes[len(parts)]
        parts.append(part)
        progress(done, max(done, size))
    if not options.allow_truncated:
        check_whole(cut_off)
    ledger.facts |= {"prompts": vars(parity), "engine": job.tokenizer.engine, "proven": options.prove}
    if cut_off.places:
        ledger.facts["cut_off"] = cut_off.places
    if wrapped := {source.name: source.key for source in found if source.key}:
        ledger.facts["rows_below_key"] = wrapped  # of the object that is all of the file
    return ledger, parts


def _bytes(source: Source) -> int:
    """Of a file, about as they are unpacked."""
    return source.path.stat().st_size * (PACKED if source.compression else 1)


def _slices(found: Sequence[Source], options: Options, cut_off: CutOff) -> Iterator[Slice]:
    return itertools.chain.from_iterable(cut(source, cut_off) for source in found)


def _processes(found: Sequence[Source], options: Options, job: Job) -> int:
    """How many processes are worth it; for more than one, the tokenizer's engine is chosen too."""
    size = sum(map(_bytes, found))
    count = options.workers or len(os.sched_getaffinity(0))
    if size < SMALL:
        return 1
    job.tokenizer.choose_engine(size, _texts(_slices(found, options, CutOff())))
    return count


def _left_out(found: Sequence[Source], job: Job, options: Options, processes: int) -> list[Dropped]:
    """By slice, the rows that are left out for what stands elsewhere; [] where none are looked for."""
    if not first_pass.is_needed(options):
        return []
    folder = job.parts.with_name("look")
    folder.mkdir(exist_ok=True)
    index = first_pass.benchmark_index(options)
    looker = Looker(options, options.duplicates == "near", index, options.contamination_share, folder)
    tasks = enumerate(_slices(found, options, CutOff()))
    looks = list(spread(first_pass.looker, looker, tasks, processes))
    return first_pass.decide(looks, options, folder)


def _texts(pieces: Iterator[Slice]) -> list[str]:
    """Some text of the corpus, to time engines on."""
    found, size = [], 0
    for record in (record for piece in pieces for record in rows(piece).records if not isinstance(record, Bad)):
        for text in item_texts(record.data):
            found.append(text)
            size += len(text)
            if size > TIMED:
                return found
    return found


def _assemble(new: Path, parts: Sequence[Part], job: Job, info: dict[str, Any], ledger: Ledger) -> None:
    """The parts as one dataset, or one for each split, with the ledger beside it."""
    splits, packing = job.route.names, {}
    for split in splits:
        folder = new / split
        paths = [work.part_path(job.parts, i, split) for i, part in enumerate(parts) if part.splits.get(split)]
        store.assemble(folder, paths, info, split or None)
        packing[split or "all"] = _packing(folder, job.limit)
    if splits != [""]:
        store.write_splits(new, splits, info)
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
        return {"rows": 0, "packs": 0}
    lengths = np.concatenate([values(chunk) for chunk in column.chunks])
    if limit == NO_LIMIT:
        return {"rows": len(lengths)}
    count = len(pack(lengths, limit))
    fill = round(int(lengths.sum()) / (count * limit), 4)
    return {"rows": len(lengths), "packs": count, "pack_length": limit, "fill": fill}


def _info(
    found: Sequence[Source], tokenizer: TextTokenizer, template: ChatTemplate, options: Options, model: str
) -> dict[str, Any]:
    """What the dataset is made from; its fingerprint covers the files' bytes and all that decides the tokens."""
    decided_by = {f.name: getattr(options, f.name) for f in fields(Options) if f.name != "workers"}
    limit = options.max_length or tokenizer.context
    today = datetime.now().date() if "strftime_now" in template.source else None  # such templates write the date
    facts = [decided_by, limit, template.hash, template.tokens, today, tokenizer.hash, _code(), [s.name for s in found]]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=repr).encode())
    for source in [*found, *sources.find(list(options.contamination), "auto")]:
        digest.update(sources.fingerprint(source).encode())
    return {
        "model": model,
        "files": [source.name for source in found],
        "template": template.source,
        "template_hash": template.hash,
        "tokenizer_hash": tokenizer.hash,
        "max_length": limit,
        "fingerprint": digest.hexdigest()[:16],
    }


@cache
def _code() -> str:
    """Stands for the code that makes datasets: other code may make another dataset of the same files."""
    digest = hashlib.sha256(nlpft.__version__.encode())
    root = Path(nlpft.__file__).parent
    for path in sorted(path for folder in CODE for path in (root / folder).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _nothing_kept(ledger: Ledger, parts: Path, count: int) -> str:
    """Why no row could be used, with the first place of each reason."""
    first: dict[str, dict] = {}
    for number in range(count):
        path = work.rejected_path(parts, number)
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
