"""A teacher's likeliest tokens at each target of a dataset, stored: a folder that `datasets.load_from_disk` opens.

ids    int32 [targets * k]    for each row of the dataset the k likeliest tokens at each of its targets, most likely first
log_p  float32 [targets * k]  their log-probabilities by softmax of logits / T
rest   float32 [targets]      log of the probability of all other tokens; -inf where there are none

Rows that training leaves out have none. nlpft.json says of which tokens, teacher, k and T they are.
"""

import copy
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
import xxhash
from torch import Tensor, nn

from nlpft.data import store
from nlpft.data.loader import PackedData, Share
from nlpft.distillation import outputs, teacher
from nlpft.distillation.outputs import TopK, top_k
from nlpft.distillation.settings import DistillationConfig
from nlpft.errors import ConfigError, DataError
from nlpft.files import locked, resumable_folder
from nlpft.models.projected_loss import spans
from nlpft.types import IGNORE

SCHEMA = pa.schema([("ids", pa.list_(pa.int32())), ("log_p", pa.list_(pa.float32())), ("rest", pa.list_(pa.float32()))])
TOKENS = 65_536  # of a part at most, which is what a kill can cost
NUMBERS = 2**27  # of a part's column at most


class Answers:
    """What `prepare` has stored in `folder`, read where it lies."""

    def __init__(self, folder: Path) -> None:
        self.k = int(store.info(folder)["k"])
        self.columns = [_Column(store.read(folder, SCHEMA.names).column(name)) for name in SCHEMA.names]

    def of(self, rows: Sequence[int], targets: int) -> TopK:
        """Those of `rows` one behind the other, filled up to `targets` positions."""
        ids, log_p, rest = (
            torch.from_numpy(np.concatenate([column.row(row) for row in rows] or [column.row(0)[:0]]))
            for column in self.columns
        )
        fill = targets - len(rest)
        ids, log_p = F.pad(ids.view(-1, self.k).long(), (0, 0, 0, fill)), F.pad(log_p.view(-1, self.k), (0, 0, 0, fill))
        return TopK(ids, log_p, F.pad(rest, (0, fill), value=-torch.inf))


class _Column:
    """A column of lists as flat arrays, chunk by chunk, without a copy."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self.chunks = [(c.offsets.to_numpy(), c.values.to_numpy(zero_copy_only=True)) for c in column.chunks]
        self.firsts = np.cumsum([0, *(len(c) for c in column.chunks)])

    def row(self, number: int) -> np.ndarray:
        chunk = int(np.searchsorted(self.firsts, number, "right")) - 1
        offsets, values = self.chunks[chunk]
        local = number - self.firsts[chunk]
        return values[offsets[local] : offsets[local + 1]]


def facts(config: DistillationConfig, name: str, data: PackedData) -> dict[str, Any]:
    """What answers follow from. name: of the teacher; data: what is trained on."""
    found = {
        "dataset": str(data.folder),
        "dataset_hash": _hash(data),
        "teacher": name,
        "teacher_hash": teacher.identity(name),
        "k": config.k,
        "temperature": config.temperature,
        "dtype": config.dtype,
    }
    decided_by = {key: value for key, value in found.items() if key not in ("dataset", "teacher")}
    return {**found, "fingerprint": xxhash.xxh3_128_hexdigest(json.dumps(decided_by, sort_keys=True).encode())[:16]}


def _hash(data: PackedData) -> str:
    """Stands for the tokens and targets of the rows that are seen."""
    digest = xxhash.xxh3_128()
    for array in (data.columns.input_ids, data.columns.labels, data.columns.offsets, data.rows):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def is_there(folder: Path, wanted: dict[str, Any]) -> bool:
    """Whether `folder` holds the answers `wanted`. Raises ConfigError where it holds others, saying in what they differ."""
    if store.is_whole(folder, wanted["fingerprint"]):
        return True
    found = store.info(folder)
    changed = [
        key for key in ("dataset_hash", "teacher_hash", "k", "temperature", "dtype") if found.get(key) != wanted[key]
    ]
    if found and changed:
        told = [key.removesuffix("_hash") for key in changed]
        named = "; ".join(f"{key} {found.get(key)} there, {wanted[key]} here" for key in told)
        raise ConfigError(
            f"distillation.answers {folder}: answers to something else ({named}"
            + ("; what is called the same has other contents" if any(found.get(k) == wanted[k] for k in told) else "")
            + "); name another folder, in which they are made anew"
        )
    return False


def prepare(
    folder: Path,
    wanted: dict[str, Any],
    data: PackedData,
    load: Callable[[], nn.Module],
    say: Callable[[str], None],
    more: Mapping[str, Any],
) -> Answers:
    """The answers `wanted` in `folder`; what is not there yet is asked of the teacher that `load` gives.

    A call that was killed goes on where it stopped, part by part; the folder appears when all of it is written. more: facts
    to be kept with it, read at its end. Raises ConfigError where the folder holds other answers, or k is more than the
    vocabulary.
    """
    with locked(folder):
        if not is_there(folder, wanted):
            begun, model, k = time.perf_counter(), load(), wanted["k"]
            check_k(k, model)
            say(f"asks {wanted['teacher']} for its {k} likeliest tokens at each target of {data.folder}")
            with resumable_folder(folder, wanted["fingerprint"], overwrite=True) as (new, parts):
                paths = (parts / f"{number:05d}.arrow" for number in itertools.count())
                made = [_part(next(paths), data, rows, model, wanted) for rows in _groups(data, k)]
                tokens = int(data.lengths.sum())
                took = {"tokens": tokens, "seconds": time.perf_counter() - begun}  # of this call
                store.assemble(new, made, {**wanted, **took, **more}, schema=SCHEMA)
    return Answers(folder)


def check_k(k: int, model: Any) -> None:
    """Raise ConfigError where the teacher has not so many tokens."""
    size = model.config.get_text_config().vocab_size
    if k > size:
        raise ConfigError(f"distillation.k {k}: the teacher's vocabulary has {size} tokens; 16 to 256 are usual")


def _groups(data: PackedData, k: int) -> Iterator[range]:
    """All rows of the dataset in order, in groups of so many tokens as make a part."""
    most, start, total = max(1, min(TOKENS, NUMBERS // k)), 0, 0
    for row, length in enumerate(data.columns.lengths.tolist()):
        if total and total + length > most:
            yield range(start, row)
            start, total = row, 0
        total += length
    yield range(start, len(data.columns.lengths))


def _part(path: Path, data: PackedData, rows: range, model: nn.Module, wanted: dict[str, Any]) -> Path:
    """The file `path` with the answers to `rows`: asked for, unless it is there from before."""
    if path.is_file():
        return path
    found = ask(data, rows, model, wanted["k"], wanted["temperature"])
    counts = _targets(data, rows)
    columns = [
        pa.ListArray.from_arrays(np.concatenate(([0], np.cumsum(counts * each))).astype(np.int32), x.numpy().ravel())
        for x, each in zip(found, (wanted["k"], wanted["k"], 1), strict=True)
    ]
    partial = path.with_suffix(f".{os.getpid()}")
    store.write_part(partial, [pa.RecordBatch.from_arrays(columns, schema=SCHEMA)], SCHEMA)
    partial.replace(path)
    return path


def _targets(data: PackedData, rows: range) -> np.ndarray:
    """Targets of each of `rows`, of those left out none."""
    seen = np.isin(rows, data.rows)
    return np.array(
        [(data.columns.row(r)[1][1:] != IGNORE).sum() * s for r, s in zip(rows, seen, strict=True)], np.int64
    )


@torch.no_grad()
def ask(data: PackedData, rows: range, model: nn.Module, k: int, temperature: float) -> TopK:
    """The teacher's answers at all targets of `rows` that are seen, on the CPU; ids int32, the rest float32."""
    device, found = next(model.parameters()).device, []
    for batch in data.micro_batches(_packs(data, rows), 1, Share()):
        batch = {name: x.to(device) if x.ndim else x for name, x in batch.items()}
        learnt, told = batch["targets"] != IGNORE, teacher.logits(model, batch)
        for part in spans(len(learnt), outputs.ROWS):
            top = top_k(told(part), k, temperature)
            found.append([x[learnt[part]].cpu() for x in (top.ids.int(), top.log_p.float(), top.rest.float())])
    empty = [torch.empty(0, k, dtype=torch.int32), torch.empty(0, k), torch.empty(0)]
    return TopK(*(torch.cat(parts) for parts in zip(empty, *found, strict=True)))


def _packs(data: PackedData, rows: range) -> list[list[int]]:
    """Those of `rows` that are seen, in order, as packs."""
    packs: list[list[int]] = []
    room = 0
    for row in np.array(rows)[np.isin(rows, data.rows)].tolist():
        length = int(data.columns.lengths[row])
        if not packs or length > room:
            packs.append([])
            room = data.max_length
        packs[-1].append(row)
        room -= length
    return packs


def told(data: PackedData, answers: Answers | None) -> PackedData:
    """`data` whose batches say which `step` they are of (on the host; 0 where nothing trains), and what the teacher answered.

    answer_ids, answer_log_p: [targets, k]; answer_rest: [targets].
    """

    def corrupt(batch: dict[str, Tensor], rows: Sequence[int], place: tuple[int, ...]) -> dict[str, Tensor]:
        found = {**data.corrupt(batch, rows, place), "step": torch.tensor(place[1])}
        if answers is not None:
            of = answers.of(rows, len(batch["targets"]))
            if int((batch["targets"] != IGNORE).sum()) != sum(len(answers.columns[2].row(row)) for row in rows):
                raise DataError(f"{data.folder}: its targets are not those that the stored answers are to")
            found |= {f"answer_{name}": x for name, x in of._asdict().items()}
        return found

    own = copy.copy(data)
    own.corrupt = corrupt
    return own
