"""A few labelled rows that a run's head was trained on, token by token: with their label, or with the spans that tags make."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nlpft.data import store, view
from nlpft.data.labelled.labels import in_words
from nlpft.data.labelled.table import TAGGING
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import UserError
from nlpft.evaluation.report.facts import Run
from nlpft.evaluation.report.tokens import HEAD, ROWS
from nlpft.types import IGNORE


class Part(NamedTuple):
    """Neighbouring tokens as text."""

    piece: view.Piece  # learnt: within a span
    ends: str  # the type of the span that ends with it; '' for none


class Labelled(NamedTuple):
    """A row on the page."""

    place: str
    label: str  # in words; '' of tags
    notes: str
    tokens: int
    parts: list[Part]  # its tokens, of a long row the first HEAD


def rows(run: Run) -> tuple[list[Labelled], str]:
    """The first ROWS rows of the run's training data, or none and the reason why they cannot be shown."""
    folder = run.data.get("train", {}).get("folder")
    if not folder:
        return [], "the run does not say what it was trained on"
    try:
        about = store.facts(Path(folder))
        kind, names = about.get("problem_type"), about.get("label_names") or ()
        table = store.read(Path(folder), ("input_ids", "labels" if kind == TAGGING else "target"))
        tokenizer = TextTokenizer(run.folder.model)
        return [_shown(row, str(kind), names, tokenizer) for row in table.slice(0, ROWS).to_pylist()], ""
    except UserError as error:
        return [], str(error)


def _shown(row: dict[str, Any], kind: str, names: Sequence[str], tokenizer: TextTokenizer) -> Labelled:
    ids = np.array(row["input_ids"], np.int32)[:HEAD]
    tags = _tags(ids, row["labels"], names, tokenizer) if kind == TAGGING else [""] * len(ids)
    whole = view.Row(row["source"], row["notes"], ids, np.array([bool(tag) for tag in tags], bool))
    view.check(whole, tokenizer)
    pieces = view.tokens(whole, tokenizer)
    following = [tags[piece.start] for piece in pieces[1:]] + [""]
    parts = [Part(piece, _ending(tags[piece.start], after)) for piece, after in zip(pieces, following, strict=True)]
    label = "" if kind == TAGGING else in_words(row["target"], kind, names)
    return Labelled(row["source"], label, row["notes"], len(row["input_ids"]), parts)


def _tags(ids: np.ndarray, labels: Sequence[int], names: Sequence[str], tokenizer: TextTokenizer) -> list[str]:
    """The tag of each token's word, a word's first token with its own, those behind it as within; '' of O and special tokens."""
    special = set(tokenizer.special.values()) - {tokenizer.vocabulary.unknown}
    found: list[str] = []
    for token, label in zip(ids.tolist(), labels, strict=False):
        if token in special:
            tag = ""
        elif label == IGNORE:
            tag = f"I-{_type(found[-1])}" if found and found[-1] else ""
        else:
            tag = "" if names[label] == "O" else names[label]
        found.append(tag)
    return found


def _type(tag: str) -> str:
    return tag.partition("-")[2] or tag


def _ending(tag: str, after: str) -> str:
    """The type of the span of which `tag` is the last, before `after`; '' where it goes on, or there is none."""
    goes_on = after and after[0] not in "BS" and _type(after) == _type(tag)
    return "" if goes_on else _type(tag)
