"""A dataset -> the batches of each optimiser step: a pure function of the seed and the step, so a run can begin at any step.

The settings say how many packs make one optimiser step, over all processes and micro-batches. How these are cut up is
derived: the same packs are seen in the same steps whatever the number of processes and the size of a micro-batch.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from torch import Tensor

from nlpft.data import store
from nlpft.data.collate import Columns, collate
from nlpft.data.columns import lists
from nlpft.data.pack import Plan, pack
from nlpft.errors import ConfigError, DataError
from nlpft.types import IGNORE

Batch = dict[str, Tensor]
# What an objective hides of a batch: (batch of data/collate.py, the numbers of its rows, what they are drawn by) -> batch
Corrupt = Callable[[Batch, Sequence[int], tuple[int, ...]], Batch]
HELD_OUT = (0, 0)  # what is drawn by where nothing trains: always the same (a step is counted from 1)

NEEDS = store.LISTS  # columns of a dataset
PACK = 1024  # tokens in a pack, where nothing else is said


@dataclass(frozen=True)
class DataConfig:
    train: Path = Path()
    """Dataset folder to train on, written by `nlpft convert`."""
    eval: Path | None = None
    """Dataset folder whose loss is measured during training."""
    max_length: int | None = None
    """Tokens in a pack: short rows share one, none is longer (default: 1,024 or the
    model's context if that is less, or the longest row's if that is more)."""
    too_long: Literal["stop", "skip"] = "stop"
    """What to do about rows longer than a pack: not begin, or leave them out and say which."""
    packs_per_step: int = 8
    """Packs in one optimiser step, over all processes and micro-batches together."""
    packs_per_micro_batch: int | Literal["auto"] = 1
    """Packs that one process computes at once; lower it if memory is short: the result stays the same. auto: what takes the
    least time of what fits, measured when the run starts."""

    @property
    def micro_batch(self) -> int:
        """packs_per_micro_batch, once training/fit.py has made a number of `auto`."""
        assert self.packs_per_micro_batch != "auto"
        return self.packs_per_micro_batch


@dataclass(frozen=True)
class Share:
    """Which part of every step is this process's."""

    process: int = 0
    processes: int = 1


class PackedData:
    """The rows of a dataset folder, in packs of at most `max_length` tokens; the model sees `context`.

    too_long: see DataConfig. static_shapes: every micro-batch has the same number of tokens, for compiled code. table: the rows,
    where they are not to be read from the folder. plan: which rows share a pack. corrupt: what becomes of each batch, drawn anew
    for every row of every step.
    Raises DataError where a row is longer than a pack, or the folder holds no dataset; ConfigError where a pack is longer than
    the context.
    """

    def __init__(
        self,
        folder: Path,
        max_length: int | None = None,
        too_long: str = "stop",
        *,
        context: int | None = None,
        static_shapes: bool = False,
        table: pa.Table | None = None,
        plan: Plan = pack,
        corrupt: Corrupt = lambda batch, rows, place: batch,
    ) -> None:
        self.plan, self.corrupt = plan, corrupt
        self.table = store.read(folder) if table is None else table
        self.columns = Columns(self.table)
        lengths = self.columns.lengths
        fit = context or PACK if too_long == "skip" else int(lengths.max())
        max_length = max_length or max(min(PACK, context or PACK), int(lengths[lengths <= fit].max(initial=0)))
        if context and max_length > context:
            raise ConfigError(
                f"data.max_length {max_length} is more than the model's context, {context} tokens; lower it"
                + (f", and convert with --max_length {context}" if lengths.max() > context else "")
            )
        self.folder, self.max_length, self.static_shapes = folder, max_length, static_shapes
        self.rows, self.left_out = np.flatnonzero(lengths <= max_length), np.flatnonzero(lengths > max_length)
        if len(self.left_out) and (too_long == "stop" or not len(self.rows)):
            longest = int(lengths.argmax())
            raise DataError(
                f"{folder}: {len(self.left_out)} rows are longer than data.max_length {max_length} (the longest, "
                f"{self.places([longest])[0]}, has {lengths[longest]} tokens); raise data.max_length, convert with --max_length "
                f"{max_length}, or leave them out by --data.too_long skip"
            )
        self.longest = -(-int(lengths[self.rows].max()) // 128) * 128  # tokens; tiles of attention kernels
        self.num_packs = len(plan(lengths[self.rows], max_length, None))

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row that is seen, [rows]."""
        return self.columns.lengths[self.rows]

    def places(self, rows: Sequence[int]) -> list[str]:
        """Where `rows` (numbers) came from: `file:row`."""
        if "source" not in self.table.column_names:
            return [f"row {row}" for row in rows]
        return self.table.column("source").take(pa.array(rows, pa.int64())).to_pylist()

    def packs(self, seed: int, epoch: int) -> list[list[int]]:
        """The packs of one epoch in the order they are seen; every row stands in exactly one, save those left out."""
        draw = np.random.default_rng((seed, epoch))
        packs = self.plan(self.columns.lengths[self.rows], self.max_length, draw.permutation(len(self.rows)))
        return [self.rows[packs[i]].tolist() for i in draw.permutation(len(packs))]

    def steps_per_epoch(self, packs_per_step: int) -> int:
        return math.ceil(self.num_packs / packs_per_step)

    def steps(
        self, config: DataConfig, seed: int, share: Share, first_step: int = 0
    ) -> Iterator[list[dict[str, Tensor]]]:
        """Micro-batches of this process for each optimiser step from `first_step` (counted from 0), epoch after epoch.

        An epoch's last step holds what is left. Every process gets equally many micro-batches, so that none waits for
        another; one that has no pack left gets one without targets.
        """
        per_epoch = self.steps_per_epoch(config.packs_per_step)
        first_epoch, skip = divmod(first_step, per_epoch)
        for epoch in itertools.count(first_epoch):
            packs, size = self.packs(seed, epoch), config.packs_per_step
            for start in range(skip * size, len(packs), size):
                place = seed, epoch * per_epoch + start // size + 1
                yield list(self.micro_batches(packs[start : start + size], config.micro_batch, share, place))
            skip = 0

    def micro_batches(
        self, packs: list[list[int]], size: int, share: Share, place: tuple[int, ...] = HELD_OUT
    ) -> Iterator[dict[str, Tensor]]:
        """This process's part of `packs`, in batches of `size` packs, each made when it is asked for.

        place: seed and step, by which is drawn what is hidden.
        """
        count = math.ceil(math.ceil(len(packs) / share.processes) / size)
        numbers = range(share.process, count * share.processes, share.processes)
        return (self._batch(_part(packs, n, share.processes, size), size, place) for n in numbers)

    def sources(self, config: DataConfig, seed: int, processes: int, step: int, micro: Sequence[int]) -> list[str]:
        """Places of the rows of optimiser step `step` (from 1) in the micro-batches that `micro` numbers over all processes."""
        epoch, number = divmod(step - 1, self.steps_per_epoch(config.packs_per_step))
        start, size = number * config.packs_per_step, config.micro_batch
        packs = self.packs(seed, epoch)[start : start + config.packs_per_step]
        return self.places([row for n in micro for pack in _part(packs, n, processes, size) for row in pack])

    def _batch(self, packs: list[list[int]], size: int, place: tuple[int, ...] = HELD_OUT) -> dict[str, Tensor]:
        rows = list(itertools.chain.from_iterable(packs))
        return self._collate(self.columns, rows, size, place)

    def _collate(
        self, columns: Columns, rows: list[int], size: int, place: tuple[int, ...] = HELD_OUT
    ) -> dict[str, Tensor]:
        fixed = {"pad_to": size * self.max_length, "longest": self.longest} if self.static_shapes else {}
        return self.corrupt(collate(columns, rows, **fixed), rows, place)

    def largest(self, size: int) -> dict[str, Tensor]:
        """A micro-batch of the `size` packs that take most memory: the longest, and of them those with most learnt tokens."""
        learnt = np.concatenate(([0], np.cumsum(self.columns.labels != IGNORE)))
        targets = learnt[self.columns.offsets[1:]] - learnt[self.columns.offsets[:-1]]
        lengths = self.columns.lengths

        def cost(rows: list[int]) -> tuple[int, int]:
            return 0 if self.static_shapes else int(lengths[rows].sum()), int(targets[rows].sum())

        return self._batch(sorted(self.packs(0, 0), key=cost)[-size:], size)

    def probe(self, vocabulary: int, size: int) -> dict[str, Tensor]:
        """Two rows of random tokens, all learnt, shaped like a micro-batch of `size` packs; see `check_isolation`."""
        rows = lists(np.random.default_rng(0).integers(0, vocabulary, 24), np.array([0, 10, 24]))
        return self._collate(Columns(pa.table({"input_ids": rows, "labels": rows})), [0, 1], size)


def packed_data(config: DataConfig, **limits: Any) -> tuple[PackedData, PackedData | None]:
    """What to train on, and what to measure the loss on, if anything; limits: see PackedData."""
    train = PackedData(config.train, config.max_length, config.too_long, **limits)
    return train, PackedData(config.eval, config.max_length, config.too_long, **limits) if config.eval else None


def _part(packs: list[list[int]], number: int, processes: int, size: int) -> list[list[int]]:
    """The packs of micro-batch `number`, counted over all processes: those of one round come before those of the next."""
    round_, process = divmod(number, processes)
    return packs[process::processes][round_ * size : (round_ + 1) * size]


def check(config: DataConfig) -> None:
    """Raise ConfigError for settings that no data could satisfy."""
    for name in ("max_length", "packs_per_step", "packs_per_micro_batch"):
        value = getattr(config, name)
        if isinstance(value, int) and value < 1:
            raise ConfigError(f"data.{name} {value}: must be at least 1")
    if config.train == Path():
        raise ConfigError("data.train is not set: give the folder that `nlpft convert FILES -o FOLDER` wrote")


def check_tokenizer(folder: Path, tokenizer_hash: str, model: str) -> None:
    """Raise ConfigError where the dataset in `folder` was made with another tokenizer than the model's."""
    facts = store.info(folder)
    if facts.get("tokenizer_hash", tokenizer_hash) != tokenizer_hash:
        raise ConfigError(
            f"{folder}: converted with the tokenizer of {facts['model']}, which is not that of {model}; "
            f"convert it with --model {model}, or train --model {facts['model']}"
        )
