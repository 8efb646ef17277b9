"""Segments -> token columns: one call of the tokenizer for a batch of rows; the rest is array arithmetic."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from nlpft.data.columns import int32, lists
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ModelError, RowRejected
from nlpft.templates._chat import ChatTemplate
from nlpft.types import IGNORE, Message, Segment


class Piece(NamedTuple):
    """What is encoded as a whole: a text, or one special token."""

    text: str
    special: bool
    train: bool


def tokenize(rows: Sequence[Sequence[Segment]], template: ChatTemplate, tokenizer: TextTokenizer) -> pa.RecordBatch:
    """One row a conversation: `input_ids` and `labels` (int32, of equal length, unshifted, IGNORE = not learnt), `length`.

    Only special tokens that the template itself wrote become control ids; content that spells one is ordinary text.
    """
    by_row = [list(pieces(row, template, tokenizer)) for row in rows]
    flat = [piece for row in by_row for piece in row]
    encoded = tokenizer.encode([p.text for p in flat if not p.special])
    special = np.fromiter((p.special for p in flat), bool, len(flat))

    lengths = np.ones(len(flat), np.int64)  # tokens of each piece
    lengths[~special] = encoded.lengths
    ids = np.empty(int(lengths.sum()), np.int32)
    is_special = np.repeat(special, lengths)
    ids[~is_special] = encoded.ids
    ids[is_special] = [tokenizer.special[p.text] for p in flat if p.special]
    train = np.repeat(np.fromiter((p.train for p in flat), bool, len(flat)), lengths)

    ends = np.cumsum([len(row) for row in by_row], dtype=np.int64)
    token_ends = np.concatenate(([0], np.cumsum(lengths)))[ends]
    offsets = np.concatenate(([0], token_ends))
    labels = np.where(train, ids, np.int32(IGNORE))
    columns = [lists(ids, offsets), lists(labels, offsets), int32(np.diff(offsets))]
    return pa.RecordBatch.from_arrays(columns, ["input_ids", "labels", "length"])


def pieces(segments: Sequence[Segment], template: ChatTemplate, tokenizer: TextTokenizer) -> Iterator[Piece]:
    """Cut template text at its special tokens, and join neighbouring text that is learnt alike.

    A header and the prompt's text behind it are encoded together, as they are when the prompt is served. Text is cut only where
    an answer begins: so the generation prompt is a token prefix of the example even where an answer begins with blanks.
    """
    text, train = "", False
    place: Callable[[str], str] = tokenizer.at_start  # what the encoder does to a text for where it stands

    def flush() -> Iterator[Piece]:
        if text:
            yield Piece(place(text), False, train)

    for segment in segments:
        for part, special in _parts(segment, template):
            if special:
                yield from flush()
                yield Piece(part, True, segment.train)
                text, place = "", tokenizer.after_special
            elif text and segment.train != train:
                yield from flush()
                text, train, place = part, segment.train, str
            else:
                text, train = text + part, segment.train
    yield from flush()


def check_prompt(template: ChatTemplate, tokenizer: TextTokenizer) -> None:
    """Raise ModelError unless a prompt in training has the very tokens that it has when it is served."""
    prompt = (Message("user", "Hello there, 12 words?\n"),)
    try:
        text = template.render(prompt, generate=True)
        ours = tokenize([template.segments(prompt, generate=True)], template, tokenizer)
    except RowRejected:  # a template that takes no such conversation shows it row by row
        return
    trained, served = ours.column("input_ids")[0].as_py(), tokenizer.served(text)
    if trained != served:
        raise ModelError(
            f"{tokenizer.folder}: with this chat template a prompt would be trained on as {len(trained)} tokens but served as "
            f"{len(served)} others: nlpft does not know this kind of tokenizer yet; choose another --template"
        )


def _parts(segment: Segment, template: ChatTemplate) -> Iterator[tuple[str, bool]]:
    """(text, is a special token) of a segment; only template text is searched for special tokens."""
    if not segment.control:
        yield segment.text, False
        return
    at = 0
    for found in template.special.finditer(segment.text):
        if found.start() > at:
            yield segment.text[at : found.start()], False
        yield found.group(), True
        at = found.end()
    if at < len(segment.text):
        yield segment.text[at:], False
