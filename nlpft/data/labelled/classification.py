"""The task of classification and regression: what labels mean, and texts with their targets as token columns."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nlpft.data.labelled import encode, labels, stratify, table
from nlpft.data.labelled.batch import Batch
from nlpft.data.labelled.example import Example, Row
from nlpft.data.labelled.labels import REGRESSION, Labels
from nlpft.data.labelled.options import LabelOptions
from nlpft.data.labelled.prove import unproven
from nlpft.data.prove import WRONG_TEXT
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import DataError, RowRejected

NO_TOKEN = "no token"


class Meaning(NamedTuple):
    """What the labels of a dataset mean."""

    labels: Labels

    @property
    def problem_type(self) -> str:
        return self.labels.problem_type

    def info(self) -> dict[str, Any]:
        """What the dataset's own file says of it."""
        return {"problem_type": self.problem_type, "label_names": list(self.labels.names)}

    def counts(self, examples: Sequence[Example]) -> dict[str, Any]:
        """How many rows have each label; of a regression's targets the mean and the spread."""
        if self.problem_type == REGRESSION:
            values = np.array([self.labels.target(row.label) for row in examples], np.float64)
            return (
                {name: float(getattr(values, name)()) for name in ("mean", "std", "min", "max")} if len(values) else {}
            )
        found = Counter(name for row in examples for name in self.labels.named(row.label))
        return {name: found[name] for name in self.labels.names}


def strata(examples: Sequence[Example], options: LabelOptions) -> list[Sequence[Any]]:
    """What is spread evenly over splits: a row's labels, or the quantile of its target."""
    found = labels.learn([row.label for row in examples], options, "the files")
    if found.problem_type != REGRESSION:
        return [labels.parts_or_none(row.label, found.separator) for row in examples]
    values = [labels.number_or(row.label, 0.0) for row in examples]
    return list(stratify.bins(values))


def learn(examples: Sequence[Example], options: LabelOptions, name: str) -> Meaning:
    """What the labels of the training split say. Raises DataError where they make no task."""
    return Meaning(labels.learn([row.label for row in examples], options, name))


def resolved(row: Example, meaning: Meaning) -> Row:
    """The row, if its label means something; else why not."""
    try:
        meaning.labels.target(row.label)
    except RowRejected as why:
        return row.reject(why.reason, why.detail)
    return row


def encoded(examples: Sequence[Example], meaning: Meaning, tokenizer: TextTokenizer, longest: int | None) -> Batch:
    """Texts, or pairs of texts, as ids."""
    texts = [[row.text for row in examples], _pairs(examples)]
    parts = [encode.encode(part, tokenizer) for part in texts if part]
    bad: dict[int, tuple[str, str]] = {}
    notes: dict[int, tuple[str, ...]] = {}
    for part, found in zip(texts, parts, strict=False):
        for i, why in unproven(found, encode.at_start(part, tokenizer), tokenizer).items():
            if why == WRONG_TEXT:
                bad[i] = why, ""
            else:
                notes[i] = (why,)
        bad |= dict.fromkeys(np.flatnonzero(found.lengths == 0).tolist(), (NO_TOKEN, ""))
    pieces = encode.framed(parts[0], parts[1] if texts[1] else None, encode.frame(tokenizer, bool(texts[1])), longest)
    target = table.targets([meaning.labels.target(row.label) for row in examples], meaning.problem_type)
    return Batch(pieces.ids, pieces.offsets, pieces.pair_start, pieces.lost, target, bad, notes)


def _pairs(examples: Sequence[Example]) -> list[str]:
    """The second texts; none where rows have one. Raises DataError where only some have two."""
    found = [row.pair for row in examples if row.pair is not None]
    if found and len(found) < len(examples):
        alone, paired = (next(row.source for row in examples if (row.pair is None) == one) for one in (True, False))
        raise DataError(f"{alone}: one text, where {paired} has two; name the same columns for all files")
    return found
