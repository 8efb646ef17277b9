"""A chat template as literal pieces around the turns' texts, found by rendering, so that applying it is concatenation.

The template is rendered once for each sequence of roles, with a mark for every text, under the eyes of `_watch`: if it only
writes the texts or strips their ends, it does the same around all other texts, and rows with that sequence of roles share the
pieces. Where it looks at the texts (and for tools), `_rowwise` renders the row itself. A row is refused, never guessed, where the
template moves, repeats or rewrites texts, or where the prompt for an answer is not a prefix of the conversation that has it.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jinja2

from nlpft.errors import ModelError, RowRejected
from nlpft.templates import _jinja
from nlpft.templates._watch import CLOSE, MARK, Watched
from nlpft.types import Message, Role, Segment

MARKED = re.compile(f"{MARK}(\\d+){CLOSE}")
LEFT, RIGHT = " \f\n", "\n\v "  # put around a text to see whether the template strips it there; no template writes them
ALL_PROMPTS = (
    16  # answers whose prompt is rendered in any case; behind them, only where the template writes something new
)

Roles = tuple[Role, ...]


class Shape(NamedTuple):
    """How a template writes all conversations of one sequence of roles."""

    before: tuple[tuple[Segment, ...], ...]  # [turns]: what stands between the text before and this one
    behind: tuple[Segment, ...]
    strips: tuple[tuple[bool, bool], ...]  # [turns]: whether a text loses its blanks to the left, to the right


class ChatTemplate:
    """`segments(messages)` of one template text with one tokenizer's special tokens.

    Raises ModelError where the text is no Jinja.
    """

    def __init__(self, source: str, special_tokens: Sequence[str], bos_token: str = "", eos_token: str = "") -> None:
        self.source = source
        self.hash = hashlib.sha256(source.encode()).hexdigest()[:16]
        self.tokens = {"bos_token": bos_token, "eos_token": eos_token}
        self.special = re.compile("|".join(map(re.escape, sorted(special_tokens, key=len, reverse=True))) or r"(?!)")
        try:
            self._jinja, self._watched = _jinja.compiled(source), Watched(source)
        except jinja2.TemplateError as error:
            raise ModelError(f"the chat template is not valid Jinja: {error}") from error
        # Per instance: the cached values belong to this template.
        self._shape = lru_cache(maxsize=100_000)(self._find_shape)
        self._prompt = lru_cache(maxsize=10_000)(self._find_prompt)

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
        if any(m.tool_calls or not m.content or m.content.isspace() for m in messages):
            return None  # templates ask for calls, and whether there is any text
        found = self._shape(tuple(m.role for m in messages), tuple(m.learnt for m in messages), generate)
        if isinstance(found, RowRejected):
            raise found
        return found

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
        except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:  # of Python under the template
            raise RowRejected("refused by the chat template", f"{type(error).__name__}: {error}") from error

    def _watch(self, roles: Roles, texts: Sequence[str], generate: bool = False) -> tuple[str, str]:
        rows = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
        return self._render(rows, generate, (), self._watched.render)

    def _find_shape(self, roles: Roles, learnt: tuple[bool, ...], generate: bool) -> Shape | RowRejected | None:
        """The shape, None where the template looks at the texts, or why it is refused: all three are worth remembering."""
        if MARK in self.source:
            return None
        try:
            marks = _marks(len(roles))
            text, looks = self._watch(roles, marks, generate)
            if looks:
                return None
            pieces = _cut(text, len(roles))
            strips = self._find_strips(roles, pieces, generate)
            words = self._find_first_words(roles, learnt, pieces, text)
            return None if words is None else self._assemble(pieces, learnt, words, strips)
        except RowRejected as why:
            return why

    def _find_strips(self, roles: Roles, pieces: tuple[str, ...], generate: bool) -> tuple[tuple[bool, bool], ...]:
        """Whether each text loses its blanks to the left and to the right."""
        padded, _ = self._watch(roles, [LEFT + mark + RIGHT for mark in _marks(len(roles))], generate)
        between = _cut(padded, len(roles))
        left, right = [], []
        for i, (piece, wide) in enumerate(zip(pieces, between, strict=True)):
            loses_left, loses_right = i == len(roles) or not wide.endswith(LEFT), i == 0 or not wide.startswith(RIGHT)
            if wide != ("" if loses_right else RIGHT) + piece + ("" if loses_left else LEFT):
                raise RowRejected("template changes a text", "it does more than strip it; choose another --template")
            left.append(loses_left)
            right.append(loses_right)
        return tuple(zip(left[:-1], right[1:], strict=True))

    def _find_first_words(
        self, roles: Roles, learnt: tuple[bool, ...], pieces: tuple[str, ...], text: str
    ) -> dict[int, str] | None:
        """By turn: what the template writes between the prompt and the answer, usually nothing; the model writes it.

        Raises RowRejected where a prompt is not a prefix of the conversation: some templates rewrite what lies in the past.
        """
        words: dict[int, str] = {}
        seen: dict[tuple[Role, str], str] = {}
        start = 0
        last = max((i for i, learns in enumerate(learnt) if learns), default=0)
        for i, role in enumerate(roles):
            start += len(pieces[i])  # in `text`: where this turn's mark begins
            if learnt[i] and role == "assistant":
                kind = (roles[i - 1] if i else role, pieces[i])
                if kind not in seen or len(words) < ALL_PROMPTS or i == last:
                    prompt, looks = self._prompt(roles[:i])
                    if looks:
                        return None
                    if not text.startswith(prompt) or not start - len(pieces[i]) <= len(prompt) <= start:
                        raise rewritten(i)
                    seen[kind] = text[len(prompt) : start]
                words[i] = seen[kind]
            start += len(MARK) + len(str(i)) + len(CLOSE)
        return words

    def _find_prompt(self, roles: Roles) -> tuple[str, str]:
        return self._watch(roles, _marks(len(roles)), generate=True)

    def _assemble(
        self, pieces: tuple[str, ...], learnt: tuple[bool, ...], words: dict[int, str], strips: tuple
    ) -> Shape:
        before = []
        for i, piece in enumerate(pieces):
            own = words.get(i, "")
            header = piece[: len(piece) - len(own)]
            parts = self.ending(header) if i and learnt[i - 1] else [Segment(header, False, True)]
            before.append(tuple(s for s in (*parts, Segment(own, True, True)) if s.text))
        return Shape(tuple(before[:-1]), before[-1], strips)


def rewritten(turn: int) -> RowRejected:
    """Why an answer whose prompt is not what stands before it cannot be learnt."""
    return RowRejected(
        "template rewrites history",
        f"turn {turn + 1} is shown otherwise when it is asked for; choose another --template",
    )


@lru_cache(maxsize=1_000)
def _marks(count: int) -> tuple[str, ...]:
    return tuple(f"{MARK}{i}{CLOSE}" for i in range(count))


def _cut(text: str, count: int) -> tuple[str, ...]:
    """`text` split at its marks; raises RowRejected unless each of `count` stands in it once and in order."""
    pieces = MARKED.split(text)
    if pieces[1::2] != [str(i) for i in range(count)]:
        raise RowRejected("template drops or repeats a turn", "choose another with --template")
    return tuple(pieces[::2])
