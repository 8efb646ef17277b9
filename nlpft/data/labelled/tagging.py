"""The task of tagging words: what tags mean, and sentences with the tag of each word on its first piece as token columns."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nlpft.data.columns import lists
from nlpft.data.labelled import align, tags
from nlpft.data.labelled.align import Words
from nlpft.data.labelled.batch import Batch
from nlpft.data.labelled.encode import frame, offsets
from nlpft.data.labelled.example import Example, Row
from nlpft.data.labelled.options import LabelOptions
from nlpft.data.labelled.prove import unproven
from nlpft.data.labelled.table import TAGGING
from nlpft.data.prove import WRONG_TEXT
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import RowRejected
from nlpft.types import IGNORE

NO_PIECE = "a word without a token"  # a rejection
UNKNOWN = "word without pieces became the unknown token"  # a repair


class Meaning(NamedTuple):
    """What the tags of a dataset mean."""

    scheme: tags.Scheme
    ids: dict[str, int]
    problem_type: str = TAGGING

    def info(self) -> dict[str, Any]:
        """What the dataset's own file says of it."""
        return {"problem_type": TAGGING, "label_names": list(self.ids), "tag_scheme": self.scheme}

    def counts(self, examples: Sequence[Example]) -> dict[str, int]:
        """How many words have each tag."""
        found = Counter(tag for row in examples for tag in row.tags)
        return {name: found[name] for name in self.ids}


def strata(examples: Sequence[Example], options: LabelOptions) -> list[Sequence[Any]]:
    """What is spread evenly over splits: the types of a sentence's spans."""
    return [sorted({tag.partition("-")[2] or tag for tag in row.tags if tag != "O"}) for row in examples]


def learn(examples: Sequence[Example], options: LabelOptions, name: str) -> Meaning:
    """What the tags of the training split say. Raises DataError where they make no task."""
    rows = [row.tags for row in examples]
    scheme = tags.scheme(rows)
    names = options.label_names or tags.names([tags.to_bio(row, scheme)[0] for row in rows], scheme, name)
    return Meaning(scheme, {tag: i for i, tag in enumerate(names)})


def resolved(row: Example, meaning: Meaning) -> Row:
    """The row with its tags in BIO, or why they mean nothing."""
    found, repairs = tags.to_bio(row.tags, meaning.scheme)
    try:
        tags.ids(found, meaning.ids)
    except RowRejected as why:
        return row.reject(why.reason, why.detail)
    return row._replace(tags=found, notes=(*row.notes, *repairs))


def encoded(examples: Sequence[Example], meaning: Meaning, tokenizer: TextTokenizer, longest: int | None) -> Batch:
    """Sentences as ids of their words' pieces."""
    words = align.encode_words([row.words for row in examples], tokenizer)
    bad, notes = _problems(words, examples, tokenizer)
    found = align.aligned(words, frame(tokenizer), longest)
    labels = np.full(len(found.ids), IGNORE, np.int32)
    labels[found.first] = _tag_ids(examples, meaning, found.words)
    starts = np.zeros(len(examples), np.int32)
    return Batch(found.ids, found.offsets, starts, found.lost, lists(labels, found.offsets), bad, notes)


def _tag_ids(examples: Sequence[Example], meaning: Meaning, words: np.ndarray) -> np.ndarray:
    """The tags of the words that fit, one row behind the other."""
    rows = zip(examples, words.tolist(), strict=True)
    return np.array([meaning.ids[tag] for row, count in rows for tag in row.tags[:count]], np.int32)


def _problems(
    words: Words, examples: Sequence[Example], tokenizer: TextTokenizer
) -> tuple[dict[int, tuple[str, str]], dict[int, tuple[str, ...]]]:
    """Rows that cannot be used, and rows with repairs, for the sake of one of their words."""
    bad: dict[int, tuple[str, str]] = {}
    notes: dict[int, tuple[str, ...]] = {}
    why = dict.fromkeys(np.flatnonzero(words.vanished).tolist(), UNKNOWN if words.unknown >= 0 else NO_PIECE)
    why = {**unproven(words.pieces, words.texts, tokenizer), **why}
    edges = offsets(words.sizes)
    for place in np.flatnonzero(np.isin(words.places, list(why))).tolist():
        row = int(np.searchsorted(edges, place, "right")) - 1
        reason, word = why[int(words.places[place])], examples[row].words[place - int(edges[row])]
        if reason in (WRONG_TEXT, NO_PIECE):
            bad.setdefault(row, (reason, repr(word)))
        elif reason not in notes.get(row, ()):
            notes[row] = (*notes.get(row, ()), reason)
    return bad, notes
