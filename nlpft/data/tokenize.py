"""Rendered rows -> token columns: one call of the tokenizer for a batch of rows; the rest is array arithmetic.

Rows of one shape (sequence of roles) share a plan: which tokens the template writes, encoded once, and where the texts come in.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from nlpft.data.columns import int32, lists
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ModelError
from nlpft.templates._chat import ChatTemplate, Shape
from nlpft.types import IGNORE, Conversation, Message, Segment

TEMPLATE = "template"  # the class of tokens that the chat template writes; the others' is their role
MOST_PLANS = 10_000  # that are kept
RAW = "text"  # the class of raw text's tokens

Part = str | int  # of a text: literal, or the number of the turn whose text comes in


class Piece(NamedTuple):
    """What is encoded as a whole: one special token, or text in which turns' texts may stand."""

    parts: tuple[Part, ...]
    special: bool
    train: bool
    role: str  # TEMPLATE where no turn's text is in it


class Plan(NamedTuple):
    """How rows of one shape become tokens: runs of the template's tokens with texts between."""

    runs: tuple[np.ndarray | None, ...]  # int32 ids; None: the tokens of the row's next text
    train: np.ndarray  # bool [runs]: whether a run is learnt
    texts: tuple[tuple[Part, ...], ...]  # what each text to be encoded is made of
    roles: tuple[str, ...]  # [texts]
    rendering: tuple[Part, ...]  # the whole row as it should decode
    learnt: tuple[Part, ...]  # the learnt part of it
    answers: int  # runs of learnt tokens
    specials: int  # special tokens


class Row(NamedTuple):
    """A rendered row: its plan and the turns' texts that it asks for, as the template writes them."""

    plan: Plan
    contents: Sequence[str]


class Tokens(NamedTuple):
    """Token columns of a batch of rows, one row after the other."""

    ids: np.ndarray  # int32 [tokens]
    labels: np.ndarray  # int32 [tokens], unshifted, IGNORE = not learnt
    offsets: np.ndarray  # int64 [rows + 1]
    texts: np.ndarray  # int64 [texts]: tokens of each text that a row's plan asks for

    def batch(self) -> pa.RecordBatch:
        """As `input_ids`, `labels` and `length`."""
        columns = [lists(self.ids, self.offsets), lists(self.labels, self.offsets), int32(self.lengths)]
        return pa.RecordBatch.from_arrays(columns, ["input_ids", "labels", "length"])

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, int64 [rows]."""
        return np.diff(self.offsets)

    def where(self, mask: np.ndarray, rows: Sequence[Row]) -> "Tokens":
        """Those of `rows` for which `mask` [rows] is set."""
        keep = np.repeat(mask, self.lengths)
        offsets = np.concatenate(([0], np.cumsum(self.lengths[mask])))
        texts = self.texts[np.repeat(mask, [len(row.plan.texts) for row in rows])]
        return Tokens(self.ids[keep], self.labels[keep], offsets, texts)


class Planner:
    """Rows of one template and one tokenizer."""

    def __init__(self, template: ChatTemplate, tokenizer: TextTokenizer) -> None:
        self.template, self.tokenizer = template, tokenizer
        self._plans: dict[int, tuple[Shape, Plan]] = {}  # by id(shape), which stays its own while the shape is kept
        self._known: dict[str, np.ndarray] = {}  # ids of the template's own texts

    def row(self, messages: Sequence[Message], tools: Sequence[dict] = ()) -> Row:
        """A conversation, rendered. Raises RowRejected as `ChatTemplate.segments` does."""
        shape = None if tools else self.template.shape(messages)
        if shape is None:
            return self.literal(self.template.segments(messages, tools=tools))
        known = self._plans.get(id(shape))
        if known is None:
            if len(self._plans) >= MOST_PLANS:
                self._plans.clear()
            known = self._plans[id(shape)] = shape, self._plan(_with_places(shape, messages))
        return Row(known[1], _stripped(shape, messages))

    def literal(self, segments: Sequence[Segment]) -> Row:
        """A row that has been rendered by itself."""
        parts = [((s.text,), s.train, s.control, s.role or TEMPLATE) for s in segments]
        return Row(self._plan(parts, literal=True), ())

    def raw(self, text: str) -> Row:
        """Raw text, learnt as a whole: for an encoder between its [CLS] and [SEP], else up to an end-of-sequence token.

        Raises ModelError where the tokenizer has none of them.
        """
        before, behind = self.tokenizer.around
        if before:
            return self.literal(
                [Segment(before, False, True), Segment(text, True, False, RAW), Segment(behind, False, True)]
            )
        end = self.tokenizer.token("eos_token")
        if end not in self.tokenizer.special:
            raise ModelError(f"{self.tokenizer.folder}: no end-of-sequence token, which raw text is to end with")
        return self.literal([Segment(text, True, False, RAW), Segment(end, True, True)])

    def planned(self, conversation: Conversation) -> Row:
        """A row, rendered: raw text as it is, anything else by the template. Raises as `row` and `raw` do."""
        if conversation.text:
            return self.raw(conversation.text)
        return self.row(conversation.messages, conversation.tools)

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
        text = fill(piece.parts, ())
        if piece.special:
            return np.array([self.tokenizer.special[text]], np.int32)
        if text not in self._known:
            self._known[text] = self.tokenizer.encode([text]).ids
        return self._known[text]


def encode(rows: Sequence[Row], tokenizer: TextTokenizer, *, exactly: bool = False) -> Tokens:
    """Tokens of `rows`; `exactly`: by the reference engine.

    Only special tokens that the template itself wrote become control ids; content that spells one is ordinary text.
    """
    texts = [fill(text, contents) for plan, contents in rows for text in plan.texts]
    encoded = (tokenizer.encode_exactly if exactly else tokenizer.encode)(texts)
    ends = np.cumsum(encoded.lengths).tolist()
    ids, starts = encoded.ids, [0, *ends]
    found = (ids[start:end] for start, end in zip(starts, ends, strict=False))
    runs = [next(found) if run is None else run for row in rows for run in row.plan.runs]

    lengths = np.fromiter(map(len, runs), np.int64, len(runs))
    ids = np.concatenate([*runs, np.empty(0, np.int32)])
    train = np.repeat(np.concatenate([np.empty(0, bool), *(row.plan.train for row in rows)]), lengths)
    row_ends = np.cumsum([0, *(len(row.plan.runs) for row in rows)])
    offsets = np.concatenate(([0], np.cumsum(lengths)))[row_ends]
    return Tokens(ids, np.where(train, ids, np.int32(IGNORE)), offsets, encoded.lengths)


def fill(parts: tuple[Part, ...], contents: Sequence[str]) -> str:
    """The text that `parts` make with a row's `contents`."""
    return "".join([part if part.__class__ is str else contents[part] for part in parts])  # type: ignore[index]


def classes(tokens: Tokens, rows: Sequence[Row]) -> dict[str, int]:
    """Tokens by role of the text they are part of, and TEMPLATE (a header that is encoded with a text counts as its own)."""
    roles = [role for row in rows for role in row.plan.roles]
    names = sorted(set(roles))
    numbers = {name: i for i, name in enumerate(names)}
    sums = np.bincount([numbers[role] for role in roles], tokens.texts, len(names)).astype(np.int64)
    out = dict(zip(names, sums.tolist(), strict=True))
    return {**out, TEMPLATE: out.get(TEMPLATE, 0) + len(tokens.ids) - int(sums.sum())}


def tokenize(rows: Sequence[Sequence[Segment]], template: ChatTemplate, tokenizer: TextTokenizer) -> pa.RecordBatch:
    """One row a conversation: `input_ids` and `labels` (int32, of equal length, unshifted, IGNORE = not learnt), `length`."""
    planner = Planner(template, tokenizer)
    return encode([planner.literal(row) for row in rows], tokenizer).batch()


def _with_places(shape: Shape, messages: Sequence[Message]) -> list[tuple]:
    """The segments of a shape, with turns' numbers in place of their texts."""
    out: list[tuple] = []
    for i, (message, before) in enumerate(zip(messages, shape.before, strict=True)):
        out += [((s.text,), s.train, s.control, TEMPLATE) for s in before]
        out.append(((i,), message.learnt, False, message.role))
    return out + [((s.text,), s.train, s.control, TEMPLATE) for s in shape.behind]


def _stripped(shape: Shape, messages: Sequence[Message]) -> list[str]:
    """The turns' texts as the template writes them: without the blanks that it strips."""
    contents = [m.content for m in messages]
    for i, (left, right) in enumerate(shape.strips):
        if left:
            contents[i] = contents[i].lstrip()
        if right:
            contents[i] = contents[i].rstrip()
    return contents


def _is_text(piece: Piece, literal: bool) -> bool:
    """Whether a piece differs from row to row, so that it is encoded with the batch."""
    return not piece.special and (literal or any(isinstance(part, int) for part in piece.parts))


def _pieces(segments: Sequence[tuple], template: ChatTemplate, tokenizer: TextTokenizer) -> Iterator[Piece]:
    """Cut template text at its special tokens, and join neighbouring text that is learnt alike.

    A header and the prompt's text behind it are encoded together, as they are when the prompt is served. Text is cut only where
    an answer begins: so the generation prompt is a token prefix of the example even where an answer begins with blanks.
    """
    parts: list[Part] = []
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


def _specials(texts: tuple[Part, ...], control: bool, template: ChatTemplate) -> Iterator[tuple[Part, bool]]:
    """(text, is a special token) of a segment; only template text is searched for special tokens."""
    for text in texts:
        if not control or isinstance(text, int):
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
