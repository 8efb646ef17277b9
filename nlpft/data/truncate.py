"""Rows that are too long, shortened by whole turns, or within one text; never through a header or an end of turn."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from nlpft.errors import RowRejected
from nlpft.types import Conversation

Measure = Callable[[Sequence[Conversation]], list[int | RowRejected]]  # tokens of each; why it cannot be rendered
SHORTEST_TEXT = 8  # characters; a text that is cut down further says nothing
MOST_CUTS = 8  # texts of a row that are cut
ROUNDS = 64  # of measuring; a row that does not fit after so many is rejected


@dataclass(frozen=True)
class Truncation:
    too_long: Literal["newest", "oldest", "reject"] = "newest"
    """What a row over max_length loses: its newest turns, its oldest (the system turn stays), or the row is rejected."""
    long_turn: Literal["prompt", "any", "reject"] = "prompt"
    """A single exchange over max_length: the prompt's longest text is cut, or any texts, the
    longest first (an answer too, which then ends early), or it is rejected."""


class Shortened(NamedTuple):
    """What became of a row that was too long."""

    conversation: Conversation
    tokens: int


def shorten(
    rows: Sequence[Conversation], lengths: Sequence[int], limit: int, how: Truncation, measure: Measure
) -> list[Shortened | RowRejected]:
    """Each of `rows`, of `lengths` tokens each, as the longest version of at most `limit` tokens.

    All rows are searched at the same time, so that `measure` sees batches.
    """
    if how.too_long == "reject":
        return [too_long(length, limit) for length in lengths]
    searches = [_Search(versions(row, how.too_long), length, limit) for row, length in zip(rows, lengths, strict=True)]
    _run(searches, measure)
    final = dict(enumerate(searches))
    for _ in range(MOST_CUTS if how.long_turn == "any" else 1):
        unfit = [i for i, search in final.items() if search.best is None and how.long_turn != "reject"]
        cuts = {i: _Search(CutVersions(final[i].shortest, how.long_turn == "any"), lengths[i], limit) for i in unfit}
        _run(list(cuts.values()), measure)
        final |= {i: cut for i, cut in cuts.items() if len(cut.versions)}
    return [search.result() for search in final.values()]


def too_long(length: int, limit: int) -> RowRejected:
    return RowRejected("too long", f"{length} tokens, max_length is {limit}")


def versions(row: Conversation, lose: Literal["newest", "oldest"]) -> "Versions":
    """`row` and what is left of it as its newest or oldest exchanges go, longest first; each ends in a learnt turn."""
    turns = row.messages
    system = 1 if turns and turns[0].role == "system" else 0
    learnt = [i for i, message in enumerate(turns) if message.learnt]
    if lose == "newest":
        return Versions(row, system, [(system, i + 1) for i in reversed(learnt)])
    starts = [i for i in range(system, len(turns)) if turns[i].role == "user" or i == system]
    return Versions(row, system, [(i, len(turns)) for i in starts if learnt and i <= learnt[-1]])


class Versions:
    """Ever shorter versions of a conversation: the system turn, and a range of the others."""

    def __init__(self, row: Conversation, system: int, ranges: Sequence[tuple[int, int]]) -> None:
        self.row, self._system, self._ranges = row, system, ranges
        self._sizes = list(itertools.accumulate((len(m.content) for m in row.messages), initial=0))

    def __len__(self) -> int:
        return len(self._ranges)

    def __getitem__(self, i: int) -> Conversation:
        (start, end), turns = self._ranges[i], self.row.messages
        return self.row._replace(messages=turns[: self._system] + turns[start:end])

    def size(self, i: int) -> int:
        """Characters, to begin the search with."""
        start, end = self._ranges[i]
        return self._sizes[self._system] + self._sizes[end] - self._sizes[start]


class CutVersions:
    """A conversation whose longest text gets shorter character by character; version 0 has all of it.

    `any_text`: learnt ones too. There is no version where there is no text to cut.
    """

    def __init__(self, row: Conversation, any_text: bool) -> None:
        self.row = row
        texts = [m.content for m in row.messages] or [row.text]
        may = [i for i in range(len(texts)) if any_text or not row.messages or not row.messages[i].learnt]
        self._at = max(may, key=lambda i: len(texts[i]), default=0)
        self._text, self._others = texts[self._at], sum(map(len, texts)) - len(texts[self._at])
        self._count = max(0, len(self._text) - SHORTEST_TEXT + 1) if may else 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, i: int) -> Conversation:
        text = self._text[: len(self._text) - i]
        if self.row.text:
            return self.row._replace(text=text)
        turns = list(self.row.messages)
        turns[self._at] = turns[self._at]._replace(content=text)
        return self.row._replace(messages=tuple(turns))

    def size(self, i: int) -> int:
        return self._others + len(self._text) - i


class _Search:
    """The first version that fits, by bisection that begins where characters say."""

    def __init__(self, found: Versions | CutVersions, length: int, limit: int) -> None:
        self.versions, self.length, self.limit = found, length, limit
        self.best: Shortened | None = None
        self.why: RowRejected | None = None
        self.low, self.high = 0, len(found) - 1  # versions that may be the one
        self._rounds = 0
        self._tokens_per_size = length / max(1, found.size(0)) if len(found) else 1.0

    @property
    def shortest(self) -> Conversation:
        return self.versions[len(self.versions) - 1] if len(self.versions) else self.versions.row

    @property
    def open(self) -> bool:
        return self.low <= self.high

    def guess(self) -> int:
        """The version to measure next: by size, and where that does not lead anywhere, the middle."""
        self._rounds += 1
        if self._rounds > ROUNDS // 4:
            return (self.low + self.high) // 2
        low, high = self.low, self.high
        while low < high:  # the first version whose characters promise to fit
            middle = (low + high) // 2
            if self.versions.size(middle) * self._tokens_per_size <= self.limit:
                high = middle
            else:
                low = middle + 1
        return low

    def told(self, guess: int, tokens: int | RowRejected) -> None:
        """`guess` has so many tokens, or cannot be rendered: then a shorter one may be."""
        if isinstance(tokens, RowRejected):
            self.why, self.low = tokens, guess + 1
            return
        self._tokens_per_size = max(tokens, 1) / max(1, self.versions.size(guess))
        if tokens <= self.limit:
            self.best, self.high = Shortened(self.versions[guess], tokens), guess - 1
        else:
            self.low = guess + 1

    def result(self) -> Shortened | RowRejected:
        return self.best or self.why or too_long(self.length, self.limit)


def _run(searches: Sequence[_Search], measure: Measure) -> None:
    for _ in range(ROUNDS):
        live = [s for s in searches if s.open]
        if not live:
            return
        guesses = [s.guess() for s in live]
        found = measure([s.versions[g] for s, g in zip(live, guesses, strict=True)])
        for search, guess, tokens in zip(live, guesses, found, strict=True):
            search.told(guess, tokens)
