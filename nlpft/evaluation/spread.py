"""Batches of questions dealt out to processes, and answers that outlive a kill: each is found again by what was asked."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from nlpft.evaluation.finite import finite
from nlpft.models.load import device

T = TypeVar("T")


def process() -> PartialState:
    """This process among those that were launched together."""
    device()  # the launcher's wish for the CPU has to be known first: without it each process stands alone
    return PartialState()


class Kept:
    """Answers by the hash of batch and model. With a folder, each process writes its own to a file there as they come."""

    def __init__(self, folder: Path | None, subject: str) -> None:
        self.subject = subject
        self.file = folder / f"answers-{process().process_index}.jsonl" if folder else None
        # One process reads, so that all agree on what is left to do.
        found = [_read(folder) if folder and process().is_main_process else {}]
        if process().num_processes > 1:
            broadcast_object_list(found)
        self.answers: dict[str, list[Any]] = found[0]

    def key(self, kind: str, batch: Sequence[Any]) -> str:
        """Of a batch as this subject is asked it."""
        return hashlib.sha256(json.dumps([self.subject, kind, batch]).encode()).hexdigest()

    def add(self, key: str, answers: list[Any]) -> None:
        """Remember the answers to one batch."""
        self.answers[key] = answers
        if self.file:
            with self.file.open("a", encoding="utf-8") as out:
                out.write(json.dumps([key, answers]) + "\n")


def _read(folder: Path) -> dict[str, list[Any]]:
    """What earlier processes left; a line that was cut off by a kill counts for nothing, nor does NaN."""
    found = {}
    for file in sorted(folder.glob("answers-*.jsonl")):
        text = file.read_text(encoding="utf-8")
        for line in text.split("\n")[:-1]:
            key, answers = json.loads(line)
            if finite(answers) == answers:  # else asked again: what made it no number may be mended
                found[key] = answers
        file.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")  # or the next line would join the broken one
    return found


def answered(
    batches: Sequence[Sequence[Any]],
    kind: str,
    begin: Callable[[Sequence[Any]], Callable[[], list[Any]]],
    kept: Kept,
    progress: Callable[[int], Any],
) -> list[list[Any]]:
    """The answers to each batch: kept ones, and the rest computed, each batch by one process. All processes get all of them.

    The batches, and so the numbers, do not depend on how many processes there are. begin: of a batch gives what waits for its
    answers, and is asked for them when the next batch has been begun. progress: told how many questions are done.
    """
    state = process()
    keys = [kept.key(kind, batch) for batch in batches]
    unique = dict(zip(keys, batches, strict=True))
    todo = [key for key in unique if key not in kept.answers]
    progress(sum(len(batch) for key, batch in zip(keys, batches, strict=True) if key in kept.answers))
    own = todo[state.process_index :: state.num_processes]
    begun = ((key, begin(unique[key])) for key in own)
    for key, answers in one_late(begun):
        kept.add(key, answers())
        progress(len(unique[key]) * state.num_processes)
    if state.num_processes > 1:
        for key, found in gather_object([(key, kept.answers[key]) for key in own]):
            kept.answers[key] = found
    return [kept.answers[key] for key in keys]


def one_late(items: Iterator[T]) -> Iterator[T]:
    """Each of `items` when the next one has been made."""
    held: list[T] = []
    for item in items:
        held.append(item)
        if len(held) > 1:
            yield held.pop(0)
    yield from held
