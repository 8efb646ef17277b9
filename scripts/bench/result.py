"""What the benchmark has measured, and the table that shows it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from bench.process import METER, Memory
from rich.table import Table

IGNORE = -100  # label of a position that is not learnt, in every suite
UNWATCHED = Memory(0, 0)


class Counts(NamedTuple):
    """Tokens that a suite has left on disk, without padding."""

    tokens: int
    learnt: int


@dataclass
class Result:
    """One suite's measurements."""

    counts: Counts
    first: float  # seconds of the very first call
    seconds: list[float] = field(default_factory=list)  # of each round
    computing: list[float] = field(default_factory=list)  # seconds on a processor, of each round
    peak: Memory = UNWATCHED
    grown: Memory = UNWATCHED  # peak with the larger file


def count(files: list[str]) -> Counts:
    """Tokens in Arrow files of `datasets`: padding has a zero in `attention_mask`, where there is one."""
    tokens = learnt = 0
    for batch in _batches(files):
        labels = _numbers(batch, "labels")
        learnt += int((labels != IGNORE).sum())
        padded = "attention_mask" in batch.schema.names
        tokens += int(np.count_nonzero(_numbers(batch, "attention_mask"))) if padded else len(labels)
    return Counts(tokens, learnt)


def _batches(files: list[str]) -> Iterator[pa.RecordBatch]:
    for name in files:
        with pa.memory_map(name) as file, pa.ipc.open_stream(file) as stream:
            yield from stream


def _numbers(batch: pa.RecordBatch, column: str) -> np.ndarray:
    """A column of lists as one array: the suites choose different types of integers."""
    return batch.column(column).flatten().to_numpy(zero_copy_only=False)


def table(results: dict[str, Result], rows: int, megabytes: float) -> Table:
    """A line for each suite; times and tokens are set against those of the first one."""
    ours = next(iter(results.values()))
    table = Table(box=None, pad_edge=False)
    memory = [f"MB {METER}", "without files"] if ours.peak.whole else []
    for name in (
        "suite",
        "s",
        "from-to",
        "s of CPU",
        "ratio",
        "rows/s",
        "tokens/s",
        "MB/s",
        *memory,
        "tokens",
        "",
        "learnt",
        "",
    ):
        table.add_column(name, justify="left" if name == "suite" else "right", no_wrap=True)
    for name, result in results.items():
        table.add_row(name, *_times(result, ours), *_rates(result, rows, megabytes), *_counts(result, ours))
    return table


def _times(result: Result, ours: Result) -> list[str]:
    seconds = median(result.seconds)
    spread = f"{min(result.seconds):.1f}-{max(result.seconds):.1f}"
    return [f"{seconds:.2f}", spread, f"{median(result.computing):.1f}", f"{seconds / median(ours.seconds):.1f}"]


def _rates(result: Result, rows: int, megabytes: float) -> list[str]:
    """Speed in the rows and bytes of the input and in the suite's own tokens; memory, if it was watched."""
    seconds = median(result.seconds)
    memory = [f"{part:,.0f}" for part in result.peak] if result.peak.whole else []
    return [f"{rows / seconds:,.0f}", f"{result.counts.tokens / seconds:,.0f}", f"{megabytes / seconds:.2f}", *memory]


def _counts(result: Result, ours: Result) -> list[str]:
    pairs = zip(result.counts, ours.counts, strict=True)
    return [cell for tokens, same in pairs for cell in (f"{tokens:,}", f"{tokens / max(1, same) - 1:+.2%}")]
