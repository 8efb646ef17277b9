"""A part of a dataset on disk: what became of one slice of the corpus.

It is an Arrow stream for each split, the rejected rows and, written last, the counts: a part that has its counts is whole, and a
conversion that was killed goes on behind it. Every file gets its name only when it is whole.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from nlpft.data import store
from nlpft.data.ledger import Rejection, Tally
from nlpft.data.remedies import remedy
from nlpft.types import Conversation, Message


class Sample(NamedTuple):
    """A row whose ids are to be compared with those that others give."""

    conversation: Conversation
    ids: list[int]

    def as_json(self) -> dict[str, Any]:
        found = self.conversation
        return {
            "messages": [tuple(m) for m in found.messages],
            "tools": found.tools,
            "source": found.source,
            "ids": self.ids,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Sample":
        messages = tuple(Message(m[0], m[1], m[2], tuple(m[3])) for m in values["messages"])
        return cls(Conversation(messages, tuple(values["tools"]), source=values["source"]), values["ids"])


@dataclass
class Part:
    """What became of a slice."""

    name: str  # of the file
    tally: Tally = field(default_factory=Tally)
    splits: dict[str, int] = field(default_factory=dict)  # split -> rows
    samples: list[Sample] = field(default_factory=list)


def write(
    folder: Path, number: int, part: Part, batches: Mapping[str, pa.RecordBatch], rejections: Iterable[Rejection]
) -> None:
    """Write part `number`: its rows by split, its rejected rows, and last its counts."""
    for split, batch in batches.items():
        _whole(part_path(folder, number, split), partial(store.write_part, batches=[batch]))
    lines = [json.dumps(r.as_dict(remedy(r.why.reason)), ensure_ascii=False) + "\n" for r in rejections]
    if lines:
        text = "".join(lines).encode("utf-8", "backslashreplace")
        _whole(rejected_path(folder, number), lambda path: path.write_bytes(text))
    samples = [sample.as_json() for sample in part.samples]
    counts = {"name": part.name, "tally": part.tally.as_json(), "splits": part.splits, "samples": samples}
    _whole(_counts_path(folder, number), lambda path: path.write_text(json.dumps(counts), encoding="utf-8"))


def finished(folder: Path, number: int) -> Part | None:
    """Part `number`, if an earlier conversion has finished it."""
    try:
        found = json.loads(_counts_path(folder, number).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    samples = [Sample.from_json(values) for values in found["samples"]]
    return Part(found["name"], Tally.from_json(found["tally"]), found["splits"], samples)


def part_path(folder: Path, number: int, split: str) -> Path:
    return folder / f"{number:06d}{f'-{split}' if split else ''}.arrow"


def rejected_path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.rejected.jsonl"


def _counts_path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.json"


def _whole(path: Path, make: Callable[[Path], Any]) -> None:
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.partial")  # a killed call's worker may still be writing
    make(unfinished)
    os.replace(unfinished, path)
