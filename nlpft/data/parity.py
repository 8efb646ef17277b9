"""Are the ids of training those of the programs that serve? Compared with `tokenizers` itself on a sample of the rows.

Of each row all ids, encoded anew, and its prompts: a server renders the conversation so far with the generation prompt, finds the
control tokens in the text, and encodes what stands between them as a whole.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from nlpft.data.engines import PROBES
from nlpft.data.parts import Sample
from nlpft.data.tokenize import Planner, encode
from nlpft.data.work import Job
from nlpft.errors import ModelError, RowRejected
from nlpft.types import Conversation, Message

FIRST = 3  # prompts of a row that are compared, and its last one
QUESTIONS = ("How many words are in 3 lines?\nCount them.", *(text for text in PROBES if text.strip()))


class InexactEngine(Exception):
    """The engine in use gives other ids than `tokenizers`."""


@dataclass
class Parity:
    """Prompts that were compared."""

    compared: int = 0
    equal: int = 0
    retokenized: int = 0  # same text, but an earlier answer's first blanks join its header when all is encoded anew
    different: list[str] = field(default_factory=list)  # 'FILE:ROW, turn N' of prompts that nothing explains

    def check(self, sample: Sample, planner: Planner) -> None:
        """Compare a row and its prompts. Raises InexactEngine where its ids are not those of the reference engine."""
        row = sample.conversation
        exact = encode([planner.planned(row)], planner.tokenizer, exactly=True).ids.tolist()
        if exact != sample.ids:
            raise InexactEngine(row.source)
        for turn, prompt in _prompts(row, planner):
            self._compare(sample, turn, planner.tokenizer.served(prompt), planner)

    def _compare(self, sample: Sample, turn: int, served: list[int], planner: Planner) -> None:
        self.compared += 1
        if sample.ids[: len(served)] == served:
            self.equal += 1
            return
        ours, theirs = (planner.tokenizer.decode(np.array(ids, np.int32)) for ids in (sample.ids, served))
        answered = any(m.role == "assistant" for m in sample.conversation.messages[:turn])
        if answered and ours.startswith(theirs):
            self.retokenized += 1
        else:
            self.different.append(f"{sample.conversation.source}, turn {turn + 1}")

    def add(self, other: "Parity") -> None:
        """Count `other`'s prompts too."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def as_dict(self) -> dict[str, object]:
        return dict(vars(self))


def auditor(job: Job) -> Callable[[Sequence[Sample]], Parity]:
    """What compares samples, for `beside`. Raises ModelError as `check_served` does, and InexactEngine as `Parity.check`."""
    planner = Planner(job.tokenizer.chat_template(job.options.written_by), job.tokenizer.by_reference())
    checked: list[bool] = []

    def audit(samples: Sequence[Sample]) -> Parity:
        if not checked:
            check_served(planner)
            checked.append(True)
        found = Parity()
        for sample in samples:
            found.check(sample, planner)
        return found

    return audit


def check_served(planner: Planner) -> None:
    """Raise ModelError where a prompt's ids are not those that `tokenizers` makes of the whole text."""
    template, tokenizer = planner.template, planner.tokenizer
    for text in QUESTIONS:
        question = [Message("user", text)]
        try:
            segments = template.segments(question, generate=True)
        except RowRejected:  # a template that refuses this conversation will say so of the rows that it refuses
            continue
        if _spells_control(segments, planner):
            continue
        ours = encode([planner.literal(segments)], tokenizer, exactly=True).ids
        theirs = tokenizer.served(template.render(question, generate=True))
        if ours.tolist() != theirs:
            raise ModelError(
                f"{tokenizer.folder}: this tokenizer gives other tokens when a prompt is encoded as a whole than piece by "
                f"piece: {tokenizer.decode(np.array(theirs))!r} against {tokenizer.decode(ours)!r}. nlpft does not know how "
                "to train exactly what it will be served; please report the model"
            )


def _prompts(row: Conversation, planner: Planner) -> Iterator[tuple[int, str]]:
    """(turn, prompt) of a row's answers that are compared."""
    turns = [i for i, m in enumerate(row.messages) if m.learnt and m.role == "assistant"]
    for turn in [*turns[:FIRST], *turns[FIRST:][-1:]]:
        before = row.messages[:turn]
        try:
            segments = planner.template.segments(before, True, row.tools)
        except (
            RowRejected
        ):  # what stands before the last answer may be shown otherwise when an earlier one is asked for
            continue
        # A server would take control strings in a text for control tokens; training never does.
        if not _spells_control(segments, planner):
            yield turn, planner.template.render(before, True, row.tools)


def _spells_control(segments: list, planner: Planner) -> bool:
    return any(not s.control and planner.template.special.search(s.text) for s in segments)
