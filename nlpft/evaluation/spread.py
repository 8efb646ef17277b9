"""Batches of questions dealt out to processes, and answers that outlive a kill: each is found again by what was asked."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from nlpft.models.load import device


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
    """What earlier processes left; a line that was cut off by a kill counts for nothing."""
    found = {}
    for file in sorted(folder.glob("answers-*.jsonl")):
        text = file.read_text(encoding="utf-8")
        for line in text.split("\n")[:-1]:
            key, answers = json.loads(line)
            found[key] = answers
        file.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")  # or the next line would join the broken one
    return found


def answered(
    batches: Sequence[Sequence[Any]],
    kind: str,
    answer: Callable[[Sequence[Any]], list[Any]],
    kept: Kept,
    progress: Callable[[int], Any],
) -> list[list[Any]]:
    """The answers to each batch: kept ones, and the rest computed, each batch by one process. All processes get all of them.

    The batches, and so the numbers, do not depend on how many processes there are. progress: told how many questions are done.
    """
    state = process()
    keys = [kept.key(kind, batch) for batch in batches]
    unique = dict(zip(keys, batches, strict=True))
    todo = [key for key in unique if key not in kept.answers]
    progress(sum(len(batch) for key, batch in zip(keys, batches, strict=True) if key in kept.answers))
    own = todo[state.process_index :: state.num_processes]
    for key in own:
        kept.add(key, answer(unique[key]))
        progress(len(unique[key]) * state.num_processes)
    if state.num_processes > 1:
        for key, answers in gather_object([(key, kept.answers[key]) for key in own]):
            kept.answers[key] = answers
    return [kept.answers[key] for key in keys]
