"""Rendered rows -> token columns: one call of the tokenizer for a batch of rows; the rest is array arithmetic.

Rows of one shape (sequence of roles) share a plan: which tokens the template writes, encoded once, and where the texts come in.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from nlpft.data.columns import int32, lists
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ModelError, RowRejected
from nlpft.templates._chat import ChatTemplate, Shape
from nlpft.types import IGNORE, Message, Segment

TEMPLATE = "template"  # the class of tokens that the chat template writes; the others' is their role


class Slot(NamedTuple):
    """Where the text of a turn comes in, and whether it loses its blanks to the left and to the right."""

    turn: int
    left: bool
    right: bool


class Piece(NamedTuple):
    """What is encoded as a whole: one special token, or text in which turns' texts may stand."""

    parts: tuple[str | Slot, ...]
    special: bool
    train: bool
    role: str  # TEMPLATE where no turn's text is in it


class Plan(NamedTuple):
    """How rows of one shape become tokens: runs of the template's tokens with texts between."""

    runs: tuple[np.ndarray | None, ...]  # int32 ids; None: the tokens of the row's next text
    train: np.ndarray  # bool [runs]: whether a run is learnt
    texts: tuple[tuple[str | Slot, ...], ...]  # what each text to be encoded is made of
    roles: tuple[str, ...]  # [texts]
    rendering: tuple[str | Slot, ...]  # the whole row as it should decode
    learnt: tuple[str | Slot, ...]  # the learnt part of it
    answers: int  # runs of learnt tokens
    specials: int  # special tokens


class Row(NamedTuple):
    """A rendered row: its plan and the turns' texts that it asks for."""

    plan: Plan
    contents: Sequence[str]


class Tokens(NamedTuple):
    """Token columns of a batch of rows, one row after the other."""

    ids: np.ndarray  # int32 [tokens]
    labels: np.ndarray  # int32 [tokens], unshifted, IGNORE = not learnt
    offsets: np.ndarray  # int64 [rows + 1]
    classes: dict[str, int]  # tokens by role, and of the template

    def batch(self) -> pa.RecordBatch:
        """As `input_ids`, `labels` and `length`."""
        columns = [lists(self.ids, self.offsets), lists(self.labels, self.offsets), int32(np.diff(self.offsets))]
        return pa.RecordBatch.from_arrays(columns, ["input_ids", "labels", "length"])

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)


class Planner:
    """Rows of one template and one tokenizer."""

    def __init__(self, template: ChatTemplate, tokenizer: TextTokenizer) -> None:
        self.template, self.tokenizer = template, tokenizer
        self._plans: dict[
            int, tuple[Shape, Plan]
        ] = {}  # by the shape's identity; the shape is kept so that it stays one

    def row(self, messages: Sequence[Message], tools: Sequence[dict] = ()) -> Row:
        """A conversation, rendered. Raises RowRejected as `ChatTemplate.segments` does."""
        shape = None if tools else self.template.shape(messages)
        if shape is None:
            return self.literal(self.template.segments(messages, tools=tools))
        known = self._plans.get(id(shape))
        if known is None:
            known = self._plans[id(shape)] = shape, self._plan(_slotted(shape, messages))
        return Row(known[1], [m.content for m in messages])

    def literal(self, segments: Sequence[Segment]) -> Row:
        """A row that has been rendered by itself."""
        parts = [((s.text,), s.train, s.control, s.role or TEMPLATE) for s in segments]
        return Row(self._plan(parts, literal=True), ())

    def _plan(self, segments: Sequence[tuple], literal: bool = False) -> Plan:
        pieces = list(_pieces(segments, self.template, self.tokenizer))
        runs = [None if _is_text(piece, literal) else self._ids(piece) for piece in pieces]
        train = np.array([piece.train for piece in pieces], bool)
        texts = [piece for piece in pieces if _is_text(piece, literal)]
        return Plan(
            tuple(runs),
            train,
            tuple(piece.parts for piece in texts),
            tuple(piece.role for piece in texts),
            tuple(part for piece in pieces for part in piece.parts),
            tuple(part for piece in pieces if piece.train for part in piece.parts),
            int((train[1:] & ~train[:-1]).sum() + train[:1].sum()),
            sum(piece.special for piece in pieces),
        )

    def _ids(self, piece: Piece) -> np.ndarray:
        text = "".join(part for part in piece.parts if isinstance(part, str))
        return (
            np.array([self.tokenizer.special[text]], np.int32) if piece.special else self.tokenizer.encode([text]).ids
        )


def encode(rows: Sequence[Row], tokenizer: TextTokenizer, *, exactly: bool = False) -> Tokens:
    """Tokens of `rows`; `exactly`: by the reference engine.

    Only special tokens that the template itself wrote become control ids; content that spells one is ordinary text.
    """
    texts = [fill(text, row.contents) for row in rows for text in row.plan.texts]
    encoded = (tokenizer.encode_exactly if exactly else tokenizer.encode)(texts)
    ends = np.cumsum(encoded.lengths).tolist()
    ids, starts = encoded.ids, [0, *ends]
    found = (ids[start:end] for start, end in zip(starts, ends, strict=False))
    runs = [next(found) if run is None else run for row in rows for run in row.plan.runs]

    lengths = np.fromiter(map(len, runs), np.int64, len(runs))
    train = np.repeat(np.concatenate([row.plan.train for row in rows] or [np.empty(0, bool)]), lengths)
    ids = np.concatenate([*runs, np.empty(0, np.int32)])
    row_ends = np.cumsum([0, *(len(row.plan.runs) for row in rows)])
    offsets = np.concatenate(([0], np.cumsum(lengths)))[row_ends]
    return Tokens(ids, np.where(train, ids, np.int32(IGNORE)), offsets, _classes(rows, encoded.lengths, len(ids)))


def fill(parts: tuple[str | Slot, ...], contents: Sequence[str]) -> str:
    """The text that `parts` make with a row's `contents`."""
    out = []
    for part in parts:
        if isinstance(part, str):
            out.append(part)
            continue
        turn, left, right = part
        text = contents[turn]
        text = text.lstrip() if left else text
        out.append(text.rstrip() if right else text)
    return "".join(out)


def tokenize(rows: Sequence[Sequence[Segment]], template: ChatTemplate, tokenizer: TextTokenizer) -> pa.RecordBatch:
    """One row a conversation: `input_ids` and `labels` (int32, of equal length, unshifted, IGNORE = not learnt), `length`."""
    planner = Planner(template, tokenizer)
    return encode([planner.literal(row) for row in rows], tokenizer).batch()


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


def _classes(rows: Sequence[Row], lengths: np.ndarray, total: int) -> dict[str, int]:
    """Tokens by role of the text they are part of (a header that is encoded with a text counts as its own)."""
    roles = [role for row in rows for role in row.plan.roles]
    names = sorted(set(roles))
    numbers = {name: i for i, name in enumerate(names)}
    sums = np.bincount([numbers[role] for role in roles], lengths, len(names)).astype(np.int64)
    out = dict(zip(names, sums.tolist(), strict=True))
    return {**out, TEMPLATE: out.get(TEMPLATE, 0) + total - int(sums.sum())}


def _slotted(shape: Shape, messages: Sequence[Message]) -> list[tuple]:
    """The segments of a shape, with slots in place of texts."""
    out: list[tuple] = []
    for i, (message, before, strips) in enumerate(zip(messages, shape.before, shape.strips, strict=True)):
        out += [((s.text,), s.train, s.control, TEMPLATE) for s in before]
        out.append(((Slot(i, *strips),), message.learnt, False, message.role))
    return out + [((s.text,), s.train, s.control, TEMPLATE) for s in shape.behind]


def _is_text(piece: Piece, literal: bool) -> bool:
    """Whether a piece differs from row to row, so that it is encoded with the batch."""
    return not piece.special and (literal or any(isinstance(part, Slot) for part in piece.parts))


def _pieces(segments: Sequence[tuple], template: ChatTemplate, tokenizer: TextTokenizer) -> Iterator[Piece]:
    """Cut template text at its special tokens, and join neighbouring text that is learnt alike.

    A header and the prompt's text behind it are encoded together, as they are when the prompt is served. Text is cut only where
    an answer begins: so the generation prompt is a token prefix of the example even where an answer begins with blanks.
    """
    parts: list[str | Slot] = []
    train, role = False, TEMPLATE
    place: Callable[[str], str] = tokenizer.at_start  # what the encoder does to a text for where it stands

    def flush() -> Iterator[Piece]:
        if parts:
            prefix = place("")
            yield Piece((prefix, *parts) if prefix else tuple(parts), False, train, role)

    for texts, learnt, control, of in segments:
        for part, special in _specials(texts, control, template):
            if special:
                yield from flush()
                yield Piece((part,), True, learnt, TEMPLATE)
                parts, place, role = [], tokenizer.after_special, TEMPLATE
            elif parts and learnt != train:
                yield from flush()
                parts, train, place, role = [part], learnt, str, of
            else:
                parts, train, role = [*parts, part], learnt, of if role == TEMPLATE else role
    yield from flush()


def _specials(
    texts: tuple[str | Slot, ...], control: bool, template: ChatTemplate
) -> Iterator[tuple[str | Slot, bool]]:
    """(text, is a special token) of a segment; only template text is searched for special tokens."""
    for text in texts:
        if not control or isinstance(text, Slot):
            yield text, False
            continue
        at = 0
        for found in template.special.finditer(text):
            if found.start() > at:
                yield text[at : found.start()], False
            yield found.group(), True
            at = found.end()
        if at < len(text):
            yield text[at:], False
