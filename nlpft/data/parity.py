"""Is a prompt in training, token for token, the prompt that is served?

What a server does is: render the conversation so far with the generation prompt, find the control tokens in the text, and encode
what stands between them as a whole. `check_served` holds that to `tokenizers` itself, once for a tokenizer and a template;
`Parity` compares the prompts of a sample of rows.
"""

import importlib.metadata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nlpft.data.engines import PROBES
from nlpft.data.tokenize import Planner, encode
from nlpft.errors import ModelError, RowRejected
from nlpft.types import Conversation, Message, Segment

FIRST = 3  # prompts of a row that are compared, and its last one
LONGEST = 20_000  # characters of a prompt that is compared
QUESTIONS = ("How many words are in 3 lines?\nCount them.", *(text for text in PROBES if text.strip()))


@dataclass
class Parity:
    """Prompts that were compared."""

    compared: int = 0
    equal: int = 0
    retokenized: int = 0  # same text, but an earlier answer's first blanks join its header when all is encoded anew

    def check(self, rows: Sequence[tuple[Conversation, np.ndarray]], planner: Planner) -> None:
        """Compare the prompts of `rows` (with their ids). Raises ModelError where one differs and nothing explains it."""
        asked = [(row, turn, prompt) for row in rows for turn, prompt in _prompts(row[0], planner)]
        served = encode([planner.literal([Segment(prompt, False, True)]) for _, _, prompt in asked], planner.tokenizer)
        for i, ((row, ids), turn, _) in enumerate(asked):
            self._compare(row, ids, turn, served.ids[served.offsets[i] : served.offsets[i + 1]], planner)

    def _compare(self, row: Conversation, ids: np.ndarray, turn: int, served: np.ndarray, planner: Planner) -> None:
        self.compared += 1
        if np.array_equal(ids[: len(served)], served):
            self.equal += 1
            return
        decode = planner.tokenizer.decode
        if any(m.role == "assistant" for m in row.messages[:turn]) and decode(ids).startswith(decode(served)):
            self.retokenized += 1
            return
        at = int(np.argmin([a == b for a, b in zip(ids, served, strict=False)]))
        raise ModelError(
            f"{row.source}: the prompt of turn {turn + 1} has other tokens in training than when it is served, from token {at}: "
            f"{decode(ids[at : at + 8])!r} against {decode(served[at : at + 8])!r}; please report the model and this row"
        )

    def add(self, other: "Parity") -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


def check_served(planner: Planner, cache: Path) -> None:
    """Raise ModelError where a prompt's ids are not those that `tokenizers` makes of the whole text. Remembered in `cache`."""
    tokenizer, template = planner.tokenizer, planner.template
    version = importlib.metadata.version("tokenizers")
    known = cache / "served" / f"{tokenizer.hash}-{template.hash}-{version}"
    if known.is_file():
        return
    for text in QUESTIONS:
        _check(Message("user", text), planner)
    try:
        known.parent.mkdir(parents=True, exist_ok=True)
        known.touch()
    except OSError:
        pass  # it will be checked again


def _check(question: Message, planner: Planner) -> None:
    template, tokenizer = planner.template, planner.tokenizer
    if template.special.search(question.content):
        return
    try:
        prompt = template.render([question], generate=True)
        rows = [planner.literal(template.segments([question], generate=True))]
    except RowRejected:  # a template that refuses this conversation will say so of the rows that it refuses
        return
    rows.append(planner.literal([Segment(prompt, False, True)]))
    tokens, theirs = encode(rows, tokenizer), tokenizer.served(prompt)
    for i in range(2):
        ours = tokens.ids[tokens.offsets[i] : tokens.offsets[i + 1]]
        if ours.tolist() != theirs:
            raise ModelError(
                f"{tokenizer.folder}: this tokenizer gives other tokens when a prompt is encoded as a whole than piece by piece: "
                f"{tokenizer.decode(np.array(theirs))!r} against {tokenizer.decode(ours)!r}. nlpft does not know how to train "
                "exactly what it will be served; please report the model"
            )


def _prompts(row: Conversation, planner: Planner) -> Iterator[tuple[int, str]]:
    """(turn, prompt) of a row's answers that are compared."""
    turns = [i for i, m in enumerate(row.messages) if m.learnt and m.role == "assistant"]
    special = planner.template.special
    for turn in [*turns[:FIRST], *turns[FIRST:][-1:]]:
        before = row.messages[:turn]
        if any(special.search(m.content) for m in before):
            continue  # a server would take control strings in a text for control tokens; training never does
        prompt = planner.template.render(before, True, row.tools)
        if len(prompt) <= LONGEST:
            yield turn, prompt
