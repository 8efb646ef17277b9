"""A dataset with labels -> the batches of each optimiser step: a pure function of the seed and the step.

A step has `rows_per_step` rows over all processes. How they are cut into micro-batches (rows of about one length together, as
many as tokens_per_micro_batch allows) is derived, and changes no result.
"""

import copy
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from nlpft.data import mixing, store
from nlpft.data.example_batch import batch_of
from nlpft.data.labelled.labels import SINGLE
from nlpft.data.labelled.sampling import oversampled, undersampled
from nlpft.data.labelled.table import TAGGING
from nlpft.data.loader import Share
from nlpft.errors import ConfigError, DataError, some
from nlpft.types import IGNORE, Layout, Task

NEEDS = ("input_ids",)  # columns of a dataset; and target or labels, as its facts say
RESAMPLED = {"over": oversampled, "under": undersampled}
NEAR = 0.8  # of a padded batch's width: a shorter row begins a batch of its own


@dataclass(frozen=True)
class ExamplesConfig:
    train: Path = Path()
    """Dataset folder with labels to train on, written by `nlpft label`."""
    eval: Path | None = None
    """Dataset folder that is scored during training, and by which the best weights are chosen."""
    test: Path | None = None
    """Dataset folder that is scored once, by the weights that were chosen."""
    rows_per_step: int = 32
    """Rows in one optimiser step, over all processes and micro-batches together."""
    tokens_per_micro_batch: int = 4096
    """Tokens that one process computes at once, at most (a longer row is computed alone); lower it if memory is short: the
    result stays the same."""
    sampling: Literal["all", "over", "under", "smote"] = "all"
    """Which rows an epoch of training has: all; over: those of rarer labels again until each has as many as the most frequent
    one; under: of each label as many as the rarest has, others in each epoch; smote: as over, by features between those of
    neighbours (Chawla et al. 2002), which asks for features once. Leave objective.class_weights at none with it."""
    features: Literal["each_step", "once"] = "each_step"
    """once: what the body makes of each row of data.train is computed before training, without dropout; only a head can train."""
    mixup: float = 0.0
    """Alpha of the Beta distribution by which features of two texts, and their targets, are mixed in training (Guo et al. 2019,
    senMixup); 0.2 to 1 are usual, 0: not at all."""
    cut_mix: float = 0.0
    """Of tagged words: probability that a row of training has a run of its words replaced by one of another row (CutMix, Yun et
    al. 2019); no span is cut."""


class Examples:
    """The rows of a dataset with labels, tokenized; the model sees `context` tokens.

    Raises DataError where the folder holds no such dataset, or a row is longer than the context.
    """

    def __init__(
        self, folder: Path, layout: Layout, context: int | None = None, *, table: pa.Table | None = None
    ) -> None:
        self.folder, self.layout = folder, layout
        self.table = store.read(folder, NEEDS) if table is None else table
        self.ids, self.offsets = _flat(self.table, "input_ids")
        self.lengths = np.diff(self.offsets)
        self.targets = _targets(self.table)
        self.pairs = _column(self.table, "pair_start", len(self.lengths))
        longest = int(self.lengths.argmax())
        if context and self.lengths[longest] > context:
            raise DataError(
                f"{self.places([longest])[0]}: {self.lengths[longest]} tokens, the model sees {context}; convert again with "
                f"--max_length {context}"
            )
        self.max_length, self.left_out = int(self.lengths[longest]), np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    def places(self, rows: Sequence[int]) -> list[str]:
        """Where `rows` (numbers) came from: `file:row`."""
        if "source" not in self.table.column_names:
            return [f"row {row}" for row in rows]
        return self.table.column("source").take(pa.array(rows, pa.int64())).to_pylist()

    def order(self, config: ExamplesConfig, seed: int, epoch: int) -> np.ndarray:
        """The rows in the order in which an epoch sees them: each once, or as often as `config.sampling` says."""
        resampled = RESAMPLED.get(config.sampling)
        rows = np.arange(len(self)) if resampled is None else resampled(self.targets, (seed, epoch))
        return np.random.default_rng((seed, epoch)).permutation(rows)

    def steps_per_epoch(self, config: ExamplesConfig) -> int:
        return math.ceil(len(self.order(config, 0, 0)) / config.rows_per_step)  # equally many in every epoch

    def steps(
        self, config: ExamplesConfig, seed: int, share: Share, first_step: int = 0
    ) -> Iterator[list[dict[str, Tensor]]]:
        """Micro-batches of this process for each optimiser step from `first_step` (counted from 0), epoch after epoch.

        An epoch's last step holds what is left.
        """
        first_epoch, skip = divmod(first_step, self.steps_per_epoch(config))
        for epoch in itertools.count(first_epoch):
            order, size = self.order(config, seed, epoch), config.rows_per_step
            data = self.mixed(config, seed, epoch)
            for start in range(skip * size, len(order), size):
                parts = data.cut(
                    order[start : start + size], config.tokens_per_micro_batch, share.processes, _together(config)
                )
                own = parts[share.process :: share.processes]
                yield [data.batch(part) | _partners(part, config, (seed, epoch)) for part in own]
            skip = 0

    def mixed(self, config: ExamplesConfig, seed: int, epoch: int) -> "Examples":
        """The rows as an epoch of training sees them: as they are, or runs of tagged words changed between them."""
        if not config.cut_mix:
            return self
        whole = mixing.Tagged(self.ids, self.offsets, self.targets)
        found = mixing.spans(whole, task(self.folder).labels, config.cut_mix, (seed, epoch), self.max_length)
        other = copy.copy(self)
        other.ids, other.offsets, other.targets = found
        other.lengths = np.diff(other.offsets)
        return other

    def micro_batches(
        self, rows: np.ndarray, config: ExamplesConfig, share: Share
    ) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        """This process's part of `rows`: row numbers, and their batch; every process gets equally many."""
        parts = self.cut(rows, config.tokens_per_micro_batch, share.processes)
        return ((part, self.batch(part)) for part in parts[share.process :: share.processes])

    def cut(self, rows: np.ndarray, tokens: int, processes: int, together: int = 1) -> list[list[int]]:
        """`rows` in micro-batches of at most `tokens`, those of one round of all processes before those of the next.

        together: how many rows that follow each other share a micro-batch as neighbours; those left over come last in theirs.
        """
        starts = np.arange(0, len(rows), together)
        sizes = np.add.reduceat(self.lengths[rows], starts)
        order = np.lexsort((-sizes, starts + together > len(rows)))
        own = [self._greedy(order[process::processes], sizes, tokens) for process in range(processes)]
        parts = [part for round_ in itertools.zip_longest(*own, fillvalue=[]) for part in round_]
        return [[row for i in part for row in rows[starts[i] : starts[i] + together].tolist()] for part in parts]

    def _greedy(self, order: np.ndarray, sizes: np.ndarray, tokens: int) -> list[list[int]]:
        """Numbers in `sizes`, the longest first, in batches that are full or, padded, would waste too much."""
        parts: list[list[int]] = []
        used = width = 0
        for number in order.tolist():
            need = int(sizes[number])
            cost = need if self.layout.packed else width
            if not parts or used + cost > tokens or (not self.layout.packed and need < NEAR * width):
                parts.append([])
                used, width = 0, need
                cost = need
            parts[-1].append(number)
            used += cost
        return parts

    def sources(self, config: ExamplesConfig, seed: int, processes: int, step: int, micro: Sequence[int]) -> list[str]:
        """Places of the rows of optimiser step `step` (from 1) in the micro-batches that `micro` numbers over all processes."""
        epoch, number = divmod(step - 1, self.steps_per_epoch(config))
        start = number * config.rows_per_step
        rows = self.order(config, seed, epoch)[start : start + config.rows_per_step]
        parts = self.mixed(config, seed, epoch).cut(rows, config.tokens_per_micro_batch, processes, _together(config))
        return self.places([row for n in micro for row in parts[n]])

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """The batch of `rows` (see `batch_of`) with `targets`, [targets] or [targets, labels], and `counted` [targets] bool.

        Without rows, one that counts nothing: a process that has none left still takes part.
        """
        taken = list(rows) or [int(self.lengths.argmin())]
        parts = [slice(self.offsets[row], self.offsets[row + 1]) for row in taken]
        read, targets = None, self.targets
        if self.layout.reads == "labelled":
            labels = [self.targets[part] for part in parts]
            read = [np.flatnonzero(x != IGNORE) for x in labels]
            targets = np.concatenate([x[at] for x, at in zip(labels, read, strict=True)])
        else:
            targets = self.targets[taken]
        made = batch_of([self.ids[part] for part in parts], self.layout, read, self.pairs[taken])
        counted = torch.full((len(targets),), bool(len(rows)))
        return {**made, "targets": torch.from_numpy(targets), "counted": counted}


def _together(config: ExamplesConfig) -> int:
    """How many rows a micro-batch must hold side by side."""
    return 2 if config.mixup else 1


def _partners(rows: Sequence[int], config: ExamplesConfig, place: tuple[int, int]) -> dict[str, Tensor]:
    """What mixup adds to the batch of `rows`: `partner` [rows] int64 and `share` [rows] float32; nothing without it."""
    if not config.mixup:
        return {}
    partner, share = mixing.pairs(rows, config.mixup, place)
    return {"partner": torch.from_numpy(partner), "share": torch.from_numpy(share)}


def task(folder: Path) -> Task:
    """What the labels in `folder` are. Raises DataError where it holds a dataset without."""
    store.read(folder, NEEDS)  # says what is wrong with the folder itself
    facts = store.facts(folder)
    kind = facts.get("problem_type")
    if kind is None:
        raise DataError(
            f"{folder}: a dataset without labels; make one that has them by `nlpft label FILES -o {folder}`"
        )
    labels = tuple(facts.get("label_names") or ())
    counts = facts.get("label_counts") or {}
    return Task(kind, labels, tuple(int(counts.get(label, 0)) for label in labels))


def check(config: ExamplesConfig) -> None:
    """Raise ConfigError for settings that no data could satisfy, and for datasets whose labels are not the same."""
    for name in ("rows_per_step", "tokens_per_micro_batch"):
        if getattr(config, name) < 1:
            raise ConfigError(f"data.{name} {getattr(config, name)}: must be at least 1")
    if not config.mixup >= 0 or not 0 <= config.cut_mix <= 1:
        raise ConfigError(
            f"data.mixup {config.mixup}: 0 or more; data.cut_mix {config.cut_mix}: a probability from 0 to 1"
        )
    if config.train == Path():
        raise ConfigError("data.train is not set: give the folder that `nlpft label FILES -o FOLDER` wrote")
    learnt = task(config.train)
    _check_task(config, learnt)
    for folder in filter(None, (config.eval, config.test)):
        other = task(folder)
        if (other.kind, other.labels) != (learnt.kind, learnt.labels):
            raise ConfigError(
                f"{folder}: its labels ({other.kind}: {some(other.labels, 5)}) are not those of {config.train} ({learnt.kind}: "
                f"{some(learnt.labels, 5)}); make both by one call: nlpft label train=FILE eval=FILE -o FOLDER"
            )


def check_layout(config: ExamplesConfig, layout: Layout) -> None:
    """Raise ConfigError where a model that reads rows in `layout` cannot have their features mixed."""
    if config.mixup and not layout.packed:
        raise ConfigError(
            "data.mixup: the model takes no rows without padding, whose features are mixed; leave it unset"
        )


def _check_task(config: ExamplesConfig, task: Task) -> None:
    """Raise ConfigError for settings that the task has no use for."""
    if config.sampling != "all" and task.kind != SINGLE:
        raise ConfigError(f"data.sampling {config.sampling}: for one label a text; {config.train} is for {task.kind}")
    if config.features == "once" and task.kind == TAGGING:
        raise ConfigError("data.features once: for whole texts, not for the words of one; leave it unset")
    if config.mixup and task.kind == TAGGING:
        raise ConfigError("data.mixup: for whole texts; words with tags are mixed by data.cut_mix")
    if config.cut_mix and task.kind != TAGGING:
        raise ConfigError("data.cut_mix: for words with tags; whole texts are mixed by data.mixup")


def _flat(table: pa.Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Values of a list column one behind the other, and where each row's begin (and the last one's end)."""
    chunks = table.column(name).chunks
    lengths = np.concatenate([c.value_lengths().to_numpy() for c in chunks] or [np.empty(0, np.int64)])
    values = np.concatenate([c.flatten().to_numpy() for c in chunks] or [np.empty(0, np.int64)])
    return values, np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))


def _targets(table: pa.Table) -> np.ndarray:
    """int64 [rows], float32 [rows] or [rows, labels] of `target`; or int64 [tokens] of `labels`."""
    if "target" not in table.column_names:
        return _flat(table, "labels")[0].astype(np.int64)
    column = table.column("target")
    if pa.types.is_list(column.type):
        return _flat(table, "target")[0].astype(np.float32).reshape(len(table), -1)
    values = column.to_numpy()
    return values.astype(np.int64 if np.issubdtype(values.dtype, np.integer) else np.float32)


def _column(table: pa.Table, name: str, rows: int) -> np.ndarray:
    return table.column(name).to_numpy() if name in table.column_names else np.zeros(rows, np.int64)
