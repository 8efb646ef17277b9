"""A chat template as literal pieces between the turns' texts, found by rendering, so that applying it is concatenation.

The template is rendered once for each sequence of roles, with a sentinel for every text; what stands between the sentinels
are the pieces. Rows with the same sequence of roles share them. A template is refused, never guessed, where it moves, repeats
or rewrites texts, or where the prompt for an answer is not a prefix of the conversation that has the answer.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

import jinja2

from nlpft.errors import ModelError, RowRejected
from nlpft.templates import _jinja
from nlpft.types import Message, Role, Segment

SPACE = " \n"  # put around a sentinel to see whether the template strips that role's text

Roles = tuple[Role, ...]


class ChatTemplate:
    """`segments(messages)` of one template text with one tokenizer's special tokens.

    Raises ModelError where the text is no Jinja or holds no place for an answer.
    """

    def __init__(self, source: str, special_tokens: Sequence[str], bos_token: str = "", eos_token: str = "") -> None:
        self.source = source
        self.hash = hashlib.sha256(source.encode()).hexdigest()[:16]
        self.tokens = {"bos_token": bos_token, "eos_token": eos_token}
        self.special = re.compile("|".join(map(re.escape, sorted(special_tokens, key=len, reverse=True))) or r"(?!)")
        try:
            self.jinja = _jinja.compiled(source)
        except jinja2.TemplateError as error:
            raise ModelError(f"the chat template is not valid Jinja: {error}") from error
        # Per instance: the cached values belong to this template.
        self._pieces = lru_cache(maxsize=100_000)(self._find_pieces)
        self._answer = lru_cache(maxsize=100_000)(self._find_answer)

    def render(self, messages: Sequence[Message], generate: bool = False) -> str:
        """The text that `apply_chat_template(messages, add_generation_prompt=generate)` gives."""
        rows = [m.as_dict() for m in messages]
        try:
            return self.jinja.render(
                messages=rows, add_generation_prompt=generate, tools=None, documents=None, **self.tokens
            )
        except jinja2.TemplateError as error:
            raise RowRejected("refused by the chat template", str(error)) from error

    def segments(self, messages: Sequence[Message], generate: bool = False) -> list[Segment]:
        """`messages` as text, cut where learnt and unlearnt text or template and content meet.

        With `generate`, the rendering ends in the header that the model continues.
        Raises RowRejected where this template cannot render such a conversation faithfully.
        """
        roles = tuple(m.role for m in messages)
        pieces, stripped = self._pieces(roles, generate)
        out: list[Segment] = []
        for i, message in enumerate(messages):
            out += self._before(roles, pieces[: i + 1], messages)
            out.append(Segment(message.content.strip() if stripped[i] else message.content, message.learnt, False))
        last = messages[-1].learnt if messages else False
        out += self._ending(pieces[-1]) if last else [Segment(pieces[-1], False, True)]
        if "".join(s.text for s in out) != self.render(messages, generate):
            raise RowRejected(
                "template changes a text", "what it writes depends on the words; choose another --template"
            )
        return [s for s in out if s.text]

    def _before(self, roles: Roles, pieces: tuple[str, ...], messages: Sequence[Message]) -> list[Segment]:
        """The last of `pieces`, which stands before turn i: the end of the turn before, then this turn's header."""
        i, piece = len(pieces) - 1, pieces[-1]
        header, first_words = piece, ""
        if messages[i].learnt and roles[i] == "assistant":
            # What follows the generation prompt is written by the model itself, so it is learnt with the answer.
            first_words = self._answer(roles[:i], pieces)
            header = piece.removesuffix(first_words) if first_words else piece
        start = self._ending(header) if i and messages[i - 1].learnt else [Segment(header, False, True)]
        return [*start, Segment(first_words, True, True)]

    def _ending(self, piece: str) -> list[Segment]:
        """`piece` behind a learnt text: learnt up to and with its first special token, where the model stops."""
        found = self.special.search(piece)
        if not found:
            raise ModelError(
                f"the chat template ends an answer with {piece!r}, which holds no special token: a model trained on it "
                "would never stop; choose another with --template"
            )
        return [Segment(piece[: found.end()], True, True), Segment(piece[found.end() :], False, True)]

    def _find_answer(self, roles: Roles, pieces: tuple[str, ...]) -> str:
        """What the template writes between the prompt, turns of `roles`, and the answer behind `pieces`: usually nothing.

        Raises RowRejected where the prompt is not a prefix of the conversation: some templates rewrite what lies in the past.
        """
        asked, _ = self._pieces(roles, True)
        if asked[:-1] != pieces[:-1] or not pieces[-1].startswith(asked[-1]):
            raise RowRejected(
                "template rewrites history",
                f"turn {len(roles) + 1} is shown otherwise when it is asked for; choose another --template",
            )
        return pieces[-1][len(asked[-1]) :]

    def _find_pieces(self, roles: Roles, generate: bool) -> tuple[tuple[str, ...], tuple[bool, ...]]:
        """The literal pieces before, between and behind the turns of `roles`, and which turns are stripped."""
        sentinels = [f"\ue000{i}\ue001" for i in range(len(roles))]
        pieces = _cut(self._render_texts(roles, sentinels, generate), sentinels)
        padded = self._render_texts(roles, [SPACE + s + SPACE[::-1] for s in sentinels], generate)
        stripped, at = [], len(pieces[0])
        for piece, sentinel in zip(pieces[1:], sentinels, strict=True):
            strips = padded.startswith(sentinel, at)
            stripped.append(strips)
            at += len(sentinel if strips else SPACE + sentinel + SPACE) + len(piece)
        again = [s if strips else SPACE + s + SPACE[::-1] for s, strips in zip(sentinels, stripped, strict=True)]
        if _join(pieces, again) != padded:
            raise RowRejected("template changes a text", "it does more than strip it; choose another --template")
        return pieces, tuple(stripped)

    def _render_texts(self, roles: Roles, texts: Sequence[str], generate: bool) -> str:
        return self.render([Message(role, text) for role, text in zip(roles, texts, strict=True)], generate)


def _cut(text: str, marks: Sequence[str]) -> tuple[str, ...]:
    """`text` split at `marks`; raises RowRejected unless each stands in it once and in order."""
    pieces = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found or mark in text:
            raise RowRejected("template drops or repeats a turn", "choose another with --template")
        pieces.append(before)
    return (*pieces, text)


def _join(pieces: Sequence[str], texts: Sequence[str]) -> str:
    return "".join(a + b for a, b in zip(pieces, [*texts, ""], strict=True))
