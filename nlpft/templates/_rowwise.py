"""The slow way to cut a rendered conversation into segments: render the row itself, with marks around its texts.

For templates that look at the texts, rows with tools, and blank texts. Taking the marks away again must give what the template
writes without them; if it does not (the template looked at the very place where a mark stands), the answers are left unmarked and
found behind their prompts; if that fails too, the row is refused.
"""

import copy
import itertools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nlpft.errors import RowRejected
from nlpft.templates._watch import CLOSE, MARK
from nlpft.types import Message, Segment

if TYPE_CHECKING:
    from nlpft.templates._chat import ChatTemplate

MOST_TURNS = 500  # each answer costs a rendering of all that precedes it
EDGE = re.compile(f"{MARK}(\\d+){CLOSE}|{CLOSE}(\\d+){MARK}")  # where the text of a turn begins, where it ends
TOOLS = 10**9  # the number that the tools' own texts are marked with


class Span(NamedTuple):
    """Where a turn's text stands in the rendering, in characters."""

    start: int
    end: int
    turn: int


def segments(
    template: "ChatTemplate", messages: Sequence[Message], generate: bool, tools: Sequence[dict]
) -> list[Segment]:
    """As `ChatTemplate.segments`."""
    if len(messages) > MOST_TURNS:
        raise RowRejected(
            "too many turns",
            f"{len(messages)}; a template that looks at the texts is rendered for {MOST_TURNS} at most",
        )
    if any(MARK in m.content or CLOSE in m.content for m in messages):
        raise RowRejected("private-use characters", "U+E000 or U+E001 in a text, and a template that looks at texts")
    text = template.render(messages, generate, tools)
    spans = _spans(template, messages, generate, tools, text)
    learnt = [_learnt(template, messages, tools, text, spans, i) for i, m in enumerate(messages) if m.learnt]
    return _cut(text, spans, learnt, messages)


def _spans(
    template: "ChatTemplate", messages: Sequence[Message], generate: bool, tools: Sequence[dict], text: str
) -> list[Span]:
    """Where the texts stand. Raises RowRejected where that cannot be seen."""
    for mark_answers in (True, False):
        shown = [_marked(m, i) if mark_answers or not m.learnt else m for i, m in enumerate(messages)]
        marked = template.render(shown, generate, _mark_leaves(list(tools), TOOLS))
        plain, spans = _unmark(marked)
        if plain == text and spans is not None:
            if tools and not any(span.turn == TOOLS for span in spans):
                raise RowRejected("template has no place for tools", "choose a template that has, or --tools text")
            _check_all_there(messages, spans, mark_answers, text)
            spans = [_with_blanks(text, span, messages) for span in spans]
            if any(m.content != n.content for m, n in zip(messages, _bare(messages, mark_answers), strict=True)):
                bare = template.render(_bare(messages, mark_answers), generate, tools)
                _check_blanks(bare, text, spans)
            return spans
    raise RowRejected("template changes a text", "what it writes depends on the words; choose another --template")


def _bare(messages: Sequence[Message], answers_too: bool) -> list[Message]:
    """`messages` whose texts have no blanks at their ends (those that are nothing else stay)."""
    return [m._replace(content=m.content.strip() or m.content) if answers_too or not m.learnt else m for m in messages]


def _with_blanks(text: str, span: Span, messages: Sequence[Message]) -> Span:
    """`span` with those blanks at its ends that the template has kept."""
    if span.turn == TOOLS or text[span.start : span.end] != messages[span.turn].content.strip():
        return span
    content = messages[span.turn].content
    left, right = len(content) - len(content.lstrip()), len(content.rstrip())
    start, end = span.start, span.end
    while left and start and text[start - 1] == content[left - 1]:
        start, left = start - 1, left - 1
    while right < len(content) and end < len(text) and text[end] == content[right]:
        end, right = end + 1, right + 1
    return Span(start, end, span.turn)


def _check_blanks(bare: str, text: str, spans: list[Span]) -> None:
    """Raise RowRejected unless `text` is `bare` (the rendering of texts without blanks at their ends) and the blanks kept."""
    parts, at = [], 0
    for span in spans:
        parts += [text[at : span.start], text[span.start : span.end].strip()]
        at = span.end
    if "".join([*parts, text[at:]]) != bare:
        raise RowRejected("template changes a text", "it does more than strip it; choose another --template")


def _check_all_there(messages: Sequence[Message], spans: list[Span], mark_answers: bool, text: str) -> None:
    """Raise RowRejected where a text is not written, or is written otherwise, or twice."""
    by_turn: dict[int, list[Span]] = {}
    for span in spans:
        by_turn.setdefault(span.turn, []).append(span)
    for i, message in enumerate(messages):
        core = message.content.strip()
        if not core or (message.learnt and not mark_answers):
            continue
        found = [text[s.start : s.end] for s in by_turn.get(i, [])]
        if found and core not in found:
            raise RowRejected("template changes a text", f"turn {i + 1}; choose another with --template")
        if not found or (len(found) != 1 and not message.tool_calls):
            raise RowRejected("template drops or repeats a turn", f"turn {i + 1}; choose another with --template")
    for i, message in enumerate(messages):
        if message.tool_calls and i not in by_turn and (mark_answers or not message.learnt):
            raise RowRejected("template has no place for tools", "choose a template that has, or --tools text")


def _learnt(
    template: "ChatTemplate",
    messages: Sequence[Message],
    tools: Sequence[dict],
    text: str,
    spans: list[Span],
    turn: int,
) -> tuple[int, int]:
    """Characters of answer `turn`: from the end of its prompt to its end-of-turn token."""
    from nlpft.templates._chat import rewritten

    own = [s for s in spans if s.turn == turn]
    if messages[turn].role == "assistant":
        prompt = template.render(messages[:turn], True, tools)
        if not text.startswith(prompt):
            raise rewritten(turn)
        start = len(prompt)
    else:  # a user's turn that is learnt by the row's own wish has no prompt
        start = own[0].start if own else len(text)
    content = messages[turn].content
    if own:
        end = own[-1].end
    else:
        core = content.strip()
        at = text.find(core, start)
        if at < 0 or template.special.search(text, start, at):
            raise RowRejected(
                "template changes a text", f"answer {turn + 1} is not written as it is; choose another --template"
            )
        end = at + len(core)
    if own and own[0].start < start:
        raise rewritten(turn)
    following = min((s.start for s in spans if s.start >= end and s.turn != turn), default=len(text))
    stop = template.special.search(text, end, following)
    if not stop:
        template.ending(text[end:following])  # raises, with the reason
    return start, stop.end() if stop else end


def _cut(text: str, spans: list[Span], learnt: list[tuple[int, int]], messages: Sequence[Message]) -> list[Segment]:
    """Segments of `text`: cut at the edges of texts and of what is learnt."""
    edges = sorted({0, len(text), *(e for s in spans for e in s[:2]), *(e for pair in learnt for e in pair)})
    contents, answers = iter([*spans, Span(len(text), len(text), -1)]), iter([*learnt, (len(text), len(text))])
    content, answer = next(contents), next(answers)
    out = []
    for start, end in itertools.pairwise(edges):
        while content.end <= start < len(text):
            content = next(contents)
        while answer[1] <= start < len(text):
            answer = next(answers)
        inside = content.start <= start < content.end
        role = ("system" if content.turn == TOOLS else messages[content.turn].role) if inside else ""
        out.append(Segment(text[start:end], answer[0] <= start < answer[1], not inside, role))
    return out


def _marked(message: Message, turn: int) -> Message:
    """`message` with marks around its text, inside the blanks at its ends, and around the words of its tool calls."""
    calls = tuple(_mark_leaves(list(message.tool_calls), turn, skip=("type",)))
    return message._replace(content=_mark(message.content, turn), tool_calls=calls)


def _mark(text: str, turn: int) -> str:
    core = text.strip()
    if not core:
        return text
    at = text.index(core)
    return f"{text[:at]}{MARK}{turn}{CLOSE}{core}{CLOSE}{turn}{MARK}{text[at + len(core) :]}"


def _mark_leaves(value: Any, turn: int, skip: tuple[str, ...] = ()) -> Any:
    """A copy of `value` in which every text is marked, but for the values of the keys `skip`."""
    if isinstance(value, str):
        return _mark(value, turn)
    if isinstance(value, dict):
        return {k: copy.copy(v) if k in skip else _mark_leaves(v, turn, skip) for k, v in value.items()}
    return [_mark_leaves(v, turn, skip) for v in value] if isinstance(value, list) else value


def _unmark(marked: str) -> tuple[str, list[Span] | None]:
    """The text without marks, and where the marked texts stand in it; None where a mark has lost its partner."""
    out: list[str] = []
    spans: list[Span] = []
    length, at, opened = 0, 0, None
    for edge in EDGE.finditer(marked):
        out.append(marked[at : edge.start()])
        length, at = length + len(out[-1]), edge.end()
        if edge[1] is not None and opened is None:
            opened = (int(edge[1]), length)
        elif edge[2] is not None and opened is not None and opened[0] == int(edge[2]):
            spans.append(Span(opened[1], length, opened[0]))
            opened = None
        else:
            return "".join([*out, marked[at:]]), None
    out.append(marked[at:])
    text = "".join(out)
    return text, None if opened or MARK in text or CLOSE in text else spans
