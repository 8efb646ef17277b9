"""Changed copies of labelled texts and tagged words: edits of words (EDA, Wei & Zou 2019; AEDA, Karimi et al. 2021), noise in
characters, and runs of words of two rows mixed (CutMix, Yun et al. 2019, on token spans).

Edits are pure functions of words, each with its tag ('' where rows have none), and a random generator. Spans stay whole: only
words outside move or go, and nothing comes between the words of one. None needs a dictionary of synonyms.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

MARKS = (".", ";", "?", ":", "!", ",")  # that AEDA inserts


class Word(NamedTuple):
    """A word with its tag in BIO; '' where rows have no tags."""

    text: str
    tag: str = ""

    @property
    def free(self) -> bool:
        """Whether the word is of no span."""
        return self.tag in ("", "O")

    @property
    def inside(self) -> bool:
        """Whether a span goes on with this word, so that nothing may come before it."""
        return self.tag.startswith("I-")


Edit = Callable[[Sequence[Word], float, Random], list[Word]]  # words, share of them that is changed (0 to 1), generator


def swap(words: Sequence[Word], share: float, draw: Random) -> list[Word]:
    """Pairs of words change places, about `share` of the words."""
    out = list(words)
    free = [i for i, word in enumerate(out) if word.free]
    if len(free) < 2:
        return out
    for _ in range(_times(len(words), share / 2, draw)):
        i, j = draw.sample(free, 2)
        out[i], out[j] = out[j], out[i]
    return out


def delete(words: Sequence[Word], share: float, draw: Random) -> list[Word]:
    """Each word goes with the probability `share`; one stays."""
    out = [word for word in words if not word.free or draw.random() >= share]
    return out or [draw.choice(words)]


def insert(words: Sequence[Word], share: float, draw: Random) -> list[Word]:
    """Punctuation comes before words, about `share` as many marks as words."""
    outside = "O" if any(word.tag for word in words) else ""
    out: list[Word] = []
    for word in words:
        if not word.inside and draw.random() < share:
            out.append(Word(draw.choice(MARKS), outside))
        out.append(word)
    return out


def noise(words: Sequence[Word], share: float, draw: Random) -> list[Word]:
    """Typing errors: of each word, with the probability `share`, a character goes, doubles, or changes places with the next."""
    return [word._replace(text=_mistyped(word.text, draw)) if draw.random() < share else word for word in words]


def _mistyped(text: str, draw: Random) -> str:
    if len(text) < 2:
        return text * 2
    at = draw.randrange(len(text) - 1)
    changed = (
        text[:at] + text[at + 1 :],
        text[: at + 1] + text[at:],
        text[:at] + text[at + 1] + text[at] + text[at + 2 :],
    )
    return draw.choice(changed)


EDITS: dict[str, Edit] = {"swap": swap, "delete": delete, "insert": insert, "noise": noise}


def edited(words: Sequence[Word], names: Sequence[str], share: float, draw: Random) -> list[Word]:
    """The words after one of the edits in EDITS, drawn from `names`."""
    return EDITS[draw.choice(list(names))](words, share, draw)


def cut_mix(first: Sequence[Word], second: Sequence[Word], share: float, draw: Random) -> tuple[list[Word], float]:
    """`first` with about `share` of its words replaced by a run of words of `second`, and the share of `first` in the result.

    Both runs end where no span is cut. Mix the targets of the two rows by that share.
    """
    size = max(1, round(share * len(first)))
    start, end = run(first, size, draw)
    begin, stop = run(second, size, draw)
    mixed = [*first[:start], *second[begin:stop], *first[end:]]
    return mixed, 1 - (stop - begin) / max(1, len(mixed))


def run(words: Sequence[Word], size: int, draw: Random) -> tuple[int, int]:
    """Where a run of `size` words or a little more begins and ends; it cuts no span."""
    start = draw.randint(0, max(0, len(words) - size))
    while start and start < len(words) and words[start].inside:
        start -= 1
    end = min(len(words), start + size)
    while end < len(words) and words[end].inside:
        end += 1
    return start, end


def _times(count: int, share: float, draw: Random) -> int:
    """`count * share`, rounded up or down by chance, at least once."""
    whole, rest = divmod(count * share, 1)
    return max(1, int(whole) + (draw.random() < rest))
