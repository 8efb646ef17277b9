"""Tags of words: the scheme in which a file writes spans (BIO, IOB1, BIOES, IO) is told, and all become BIO.

Ramshaw & Marcus 1995 (IOB1: B- only where a span touches one of its own type), Sang & Veenstra 1999 (BIO, also called IOB2).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Literal, NamedTuple

from nlpft.data.labelled.labels import UNSEEN
from nlpft.errors import DataError, RowRejected

Scheme = Literal["bio", "iob1", "bioes", "plain"]
TAG = re.compile(r"O|[BIESLUM]-.+")
STRANGE = 0.01  # share of the tags that may be no spans' tags where the others are
NO_BEGIN, NO_END = "I- without B-", "span without its end"  # repairs


class Mark(NamedTuple):
    """A tag taken apart, beside the one before it."""

    mark: str  # O, B, I, E, S; BILOU's L and U, and BMES's M
    kind: str
    fresh: bool  # whether a span begins here
    open: bool  # whether the span before should have gone on
    touches: bool  # whether a span of the same type ends right before


def marks(tags: Sequence[str]) -> Iterator[Mark]:
    """The tags of one sentence, taken apart. An I- that no span of its type goes on from begins one, as for conlleval."""
    before, kind_before = "O", ""
    for tag in tags:
        mark, _, kind = tag.partition("-")
        ended = before in "OESLU"
        fresh = mark != "O" and (mark in "BSU" or ended or kind != kind_before)
        yield Mark(mark, kind, fresh, not ended and (fresh or mark == "O"), before != "O" and kind == kind_before)
        before, kind_before = mark, kind


def scheme(rows: Sequence[Sequence[str]]) -> Scheme:
    """How spans are written in these sentences; 'plain' where tags are no spans', such as parts of speech."""
    total = sum(map(len, rows))
    known = {tag: TAG.fullmatch(tag) is not None for tag in set(chain.from_iterable(rows))}
    if sum(not known[tag] for tag in chain.from_iterable(rows)) > STRANGE * total:
        return "plain"
    if {tag[0] for tag in known} & set("ESLUM"):
        return "bioes"
    by_i = needless_b = 0
    for mark in chain.from_iterable(map(marks, rows)):
        by_i += mark.fresh and mark.mark == "I"
        needless_b += mark.mark == "B" and not mark.touches
    return "iob1" if by_i and not needless_b else "bio"


def to_bio(tags: Sequence[str], scheme: Scheme) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tags in BIO, and what had to be repaired for it (NO_BEGIN, NO_END)."""
    if scheme == "plain":
        return tuple(tags), ()
    found = list(marks(tags))
    out = tuple("O" if m.mark == "O" else f"{'B' if m.fresh else 'I'}-{m.kind}" for m in found)
    begins = scheme != "iob1" and any(m.fresh and m.mark not in "BSU" for m in found)
    last = found[-1].mark if found else "O"
    ends = scheme == "bioes" and (any(m.open for m in found) or last not in "OESLU")
    return out, tuple(note for note, hit in ((NO_BEGIN, begins), (NO_END, ends)) if hit)


def names(rows: Iterable[Sequence[str]], scheme: Scheme, name: str) -> tuple[str, ...]:
    """All tags in the order of their ids: O, then B- and I- of each type. Raises DataError where no word has a tag."""
    found = set(chain.from_iterable(rows))
    if scheme == "plain":
        if len(found) < 2:
            only = ", ".join(found) or "none"
            raise DataError(f"{name}: a tagger needs two tags or more, and there is {only}; is --columns.tags right?")
        return tuple(sorted(found, key=lambda tag: (tag != "O", tag)))
    kinds = sorted({tag[2:] for tag in found if TAG.fullmatch(tag) and tag != "O"})
    if not kinds:
        raise DataError(f"{name}: every word has the tag O; is --columns.tags right?")
    return ("O", *(f"{mark}-{kind}" for kind in kinds for mark in "BI"))


def ids(tags: Sequence[str], known: dict[str, int]) -> list[int]:
    """The ids of tags. Raises RowRejected for one that the training split does not have."""
    try:
        return [known[tag] for tag in tags]
    except KeyError as unknown:
        raise RowRejected(UNSEEN, str(unknown.args[0])) from None
