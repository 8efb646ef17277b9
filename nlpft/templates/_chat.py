"""A chat template as literal pieces around the turns' texts, found by rendering, so that applying it is concatenation.

The template is rendered once for each sequence of roles, with a mark for every text, under the eyes of `_watch`: if it only
writes the texts or strips their ends, it does the same around all other texts, and rows with that sequence of roles share the
pieces; if it asks whether they hold certain words, rows without these words do. All other rows, and those with tools or blank
texts, are rendered one by one in `_rowwise`. A row is refused, never guessed, where the template moves, repeats or rewrites
texts, or where the prompt for an answer is not a prefix of the conversation that has it.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jinja2

from nlpft.errors import ModelError, RowRejected
from nlpft.templates import _jinja
from nlpft.templates._watch import MARKED, Watched, Words, between, marks, words_of
from nlpft.types import Message, Role, Segment

# Answers whose prompts are all rendered, at a cost that grows with the square of the turns; of later ones, those to which the
# template writes what it has not written before, and the last.
ALL_PROMPTS = 200

Roles = tuple[Role, ...]


class Shape(NamedTuple):
    """How a template writes all conversations of one sequence of roles."""

    before: tuple[tuple[Segment, ...], ...]  # [turns]: what stands between the text before and this one
    behind: tuple[Segment, ...]
    strips: tuple[tuple[bool, bool], ...]  # [turns]: whether a text loses its blanks to the left, to the right


class Found(NamedTuple):
    """What became of a sequence of roles: a shape, or why it is refused; for texts without `words`, if there are any."""

    shape: Shape | RowRejected
    words: Words | None


class Rendering(NamedTuple):
    """What the template makes of marked texts."""

    text: str
    refused: RowRejected | None
    look: str  # what looked at a text, if anything did
    asked: tuple[tuple[str, str], ...]  # as `Seen.asked`


class ChatTemplate:
    """`segments(messages)` of one template text with one tokenizer's special tokens.

    `named` are those that the template may call by name (`bos_token`, `eos_token`, `pad_token`, ...); as in transformers, those
    that the tokenizer has not got are undefined. Raises ModelError where the text is no Jinja.
    """

    def __init__(
        self, source: str, special_tokens: Sequence[str], bos_token: str = "", eos_token: str = "", **named: str
    ):
        self.source = source
        self.hash = hashlib.sha256(source.encode()).hexdigest()[:16]
        named |= {"bos_token": bos_token, "eos_token": eos_token}
        self.tokens = {name: token for name, token in named.items() if token}
        self.special = re.compile("|".join(map(re.escape, sorted(special_tokens, key=len, reverse=True))) or r"(?!)")
        try:
            self._jinja, self._watched = _jinja.compiled(source), Watched(source)
        except jinja2.TemplateError as error:
            raise ModelError(f"the chat template is not valid Jinja: {error}") from error
        # Per instance: the cached values belong to this template. Few are asked for again once there are thousands.
        self._found = lru_cache(maxsize=10_000)(self._find)
        self._marked = lru_cache(maxsize=1_000)(self._render_marked)

    def render(self, messages: Sequence[Message], generate: bool = False, tools: Sequence[dict] = ()) -> str:
        """The text that `apply_chat_template(messages, add_generation_prompt=generate)` gives.

        Raises RowRejected where the template refuses such a conversation.
        """
        return self._render([m.as_dict() for m in messages], generate, tools, self._jinja.render)

    def segments(
        self, messages: Sequence[Message], generate: bool = False, tools: Sequence[dict] = ()
    ) -> list[Segment]:
        """`messages` as text, cut where learnt and unlearnt text or template and content meet.

        With `generate`, the rendering ends in the header that the model continues.
        Raises RowRejected where this template cannot render such a conversation faithfully.
        """
        shape = None if tools else self.shape(messages, generate)
        if shape is None:
            from nlpft.templates import _rowwise

            return _rowwise.segments(self, messages, generate, tools)
        out: list[Segment] = []
        for message, before, (left, right) in zip(messages, shape.before, shape.strips, strict=True):
            text = message.content
            text = text.lstrip() if left else text
            text = text.rstrip() if right else text
            out += [*before, Segment(text, message.learnt, False, message.role)]
        return [s for s in (*out, *shape.behind) if s.text]

    def shape(self, messages: Sequence[Message], generate: bool = False) -> Shape | None:
        """How such a conversation is written, whatever its texts say; None where that depends on them.

        Raises RowRejected as `segments` does.
        """
        # By C, not by attributes: this is for every row.
        roles, texts, trains, calls = zip(*messages, strict=True) if messages else ((),) * len(Message._fields)
        if any(calls) or not all(map(str.strip, texts)):
            return None  # templates ask for calls, and whether there is any text
        found = self._found(roles, trains, generate)
        if found is None or (found.words and found.words.found(texts)):
            return None
        if isinstance(found.shape, RowRejected):
            raise found.shape
        return found.shape

    def ending(self, piece: str) -> list[Segment]:
        """`piece` behind a learnt text: learnt up to and with its first special token, where the model stops.

        Raises ModelError where there is none.
        """
        found = self.special.search(piece)
        if not found:
            raise ModelError(
                f"the chat template ends an answer with {piece!r}, which holds no special token: a model trained on it "
                "would never stop; choose another with --template"
            )
        return [Segment(piece[: found.end()], True, True), Segment(piece[found.end() :], False, True)]

    def _render(self, rows: list[dict], generate: bool, tools: Sequence[dict], render: Any) -> Any:
        try:
            return render(
                messages=rows, add_generation_prompt=generate, tools=list(tools) or None, documents=None, **self.tokens
            )
        except jinja2.TemplateError as error:
            raise RowRejected("refused by the chat template", str(error)) from error
        # Of Python under the template.
        except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError) as error:
            raise RowRejected("refused by the chat template", f"{type(error).__name__}: {error}") from error

    def _render_marked(self, roles: Roles, generate: bool) -> Rendering:
        rows = [{"role": role, "content": mark} for role, mark in zip(roles, marks(len(roles)), strict=True)]
        text, refused, seen = "", None, self._watched.begin()
        try:
            text = self._render(rows, generate, (), self._watched.render)
        except RowRejected as why:
            refused = why
        return Rendering(text, refused, seen.look, seen.asked())

    def _find(self, roles: Roles, trains: tuple[bool | None, ...], generate: bool) -> Found | None:
        """What rows of these roles share: None if the template looks at the texts."""
        learnt = [Message(role, "", train).learnt for role, train in zip(roles, trains, strict=True)]
        whole = self._marked(roles, generate)
        if whole.look:
            return None
        seen = [whole]
        try:
            shape: Shape | RowRejected = self._find_shape(roles, learnt, seen)
        except RowRejected as why:
            shape = why
        if any(rendering.look for rendering in seen):
            return None
        words = words_of(pair for rendering in seen for pair in rendering.asked)
        return Found(shape, words if any(words) else None)

    def _find_shape(self, roles: Roles, learnt: Sequence[bool], seen: list[Rendering]) -> Shape:
        """The shape, from a whole rendering in `seen`, to which the prompts are added. Raises RowRejected."""
        whole = seen[0]
        if whole.refused:
            raise whole.refused
        cuts = list(MARKED.finditer(whole.text))
        pieces = between(whole.text, (cut.span() for cut in cuts))
        if [int(cut[2]) for cut in cuts] != list(range(len(roles))):
            raise RowRejected("template drops or repeats a turn", "choose another with --template")
        answers = [i for i, role in enumerate(roles) if learnt[i] and role == "assistant"]
        first_words: dict[str, str] = {}  # by the piece before the answer
        words: dict[int, str] = {}
        for number, i in enumerate(answers):
            if number < ALL_PROMPTS or pieces[i] not in first_words or i == answers[-1]:
                seen.append(self._marked(roles[:i], True))
                first_words[pieces[i]] = _behind_prompt(seen[-1], whole.text, cuts[i].start(), pieces[i], i)
            words[i] = first_words[pieces[i]]
        return self._assemble(pieces, learnt, words, [(not cut[1], not cut[3]) for cut in cuts])

    def _assemble(
        self, pieces: Sequence[str], learnt: Sequence[bool], words: dict[int, str], strips: Sequence[tuple[bool, bool]]
    ) -> Shape:
        known: dict[tuple[str, bool, str], tuple[Segment, ...]] = {}  # a template writes few pieces, again and again
        before = []
        for i, piece in enumerate(pieces):
            kind = piece, i > 0 and learnt[i - 1], words.get(i, "")
            if kind not in known:
                known[kind] = self._segments(*kind)
            before.append(known[kind])
        return Shape(tuple(before[:-1]), before[-1], tuple(strips))

    def _segments(self, piece: str, ends_answer: bool, words: str) -> tuple[Segment, ...]:
        """A piece of template text: behind an answer, its end is learnt; so are the first words of the next one."""
        header = piece[: len(piece) - len(words)]
        parts = self.ending(header) if ends_answer else [Segment(header, False, True)]
        return tuple(s for s in (*parts, Segment(words, True, True)) if s.text)


def rewritten(turn: int) -> RowRejected:
    """Why an answer whose prompt is not what stands before it cannot be learnt."""
    return RowRejected(
        "template rewrites history",
        f"turn {turn + 1} is shown otherwise when it is asked for; choose another --template",
    )


def no_prompt(turn: int, why: RowRejected) -> RowRejected:
    """Why an answer cannot be learnt that nobody could ask for."""
    return RowRejected("template has no prompt for an answer", f"turn {turn + 1}: {why.detail}")


def _behind_prompt(prompt: Rendering, text: str, end: int, piece: str, turn: int) -> str:
    """What the template writes between the prompt and an answer, usually nothing; the model writes it.

    `piece` stands before the answer, which begins at `end` in `text`. Raises RowRejected where the prompt is not a prefix of the
    conversation: some templates rewrite what lies in the past.
    """
    if prompt.refused:
        raise no_prompt(turn, prompt.refused)
    if not text.startswith(prompt.text) or not end - len(piece) <= len(prompt.text) <= end:
        raise rewritten(turn)
    return text[len(prompt.text) : end]
