"""The slow way to cut a rendered conversation into segments: render the row itself, with marks around its texts.

For templates that look at the texts, rows with tools, and blank texts. Taking the marks away again must give what the template
writes without them. Where it does not (the template looked at the very place where a mark stands), fewer texts are marked: the
learnt answers are found behind their prompts, and earlier answers that are not learnt, and tools, may be rewritten, unless they
spell a special token. If that fails too, the row is refused.
"""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nlpft.errors import RowRejected
from nlpft.templates._watch import CLOSE, MARK, between
from nlpft.types import Message, Segment

if TYPE_CHECKING:
    from nlpft.templates._chat import ChatTemplate

NO_TOOLS = "template has no place for tools"  # the reason of a rejection: whoever can write tools as text does
MOST_TURNS = 500  # each answer costs a rendering of all that precedes it
# What is marked: a turn's text, the words of its tool calls, those of the tools on offer.
TEXT, CALL, TOOL = "t", "c", "f"
EDGE = re.compile(f"{MARK}([tcf])(\\d+){CLOSE}|{CLOSE}([tcf])(\\d+){MARK}")  # where a marked text begins, where it ends

Tools = Sequence[dict[str, Any]]


class Span(NamedTuple):
    """Where a text stands in the rendering, in characters."""

    start: int
    end: int
    kind: str
    turn: int


class Row(NamedTuple):
    """A conversation, its template, and what that makes of it."""

    template: "ChatTemplate"
    messages: Sequence[Message]
    tools: Tools
    generate: bool
    text: str


class Marking(NamedTuple):
    """Which texts are marked."""

    turns: tuple[bool, ...]
    tools: bool


def segments(template: "ChatTemplate", messages: Sequence[Message], generate: bool, tools: Tools) -> list[Segment]:
    """As `ChatTemplate.segments`."""
    if len(messages) > MOST_TURNS:
        raise RowRejected(
            "too many turns",
            f"{len(messages)}; a template that looks at the texts is rendered for {MOST_TURNS} at most",
        )
    if any(MARK in m.content or CLOSE in m.content for m in messages):
        raise RowRejected("private-use characters", "U+E000 or U+E001 in a text, and a template that looks at texts")
    row = Row(template, messages, tools, generate, template.render(messages, generate, tools))
    spans = _spans(row)
    learnt = []
    for i in (i for i, message in enumerate(messages) if message.learnt):
        start = _start(row, spans, i)
        if not any(span.turn == i and span.kind != TOOL for span in spans):
            spans = sorted([*spans, _find(row, i, start)])
        learnt.append((start, _stop(row, spans, i)))
    return _cut(row, spans, learnt)


def _spans(row: Row) -> list[Span]:
    """Where the texts stand. Raises RowRejected where that cannot be seen."""
    for marking in _markings(row):
        spans = _rendered(row, row.messages, marking, row.text)
        if spans is None:
            continue
        _check_tools(row, spans, marking)
        _check_turns(row, spans, marking)
        return _with_blanks(row, spans, marking)
    raise RowRejected("template changes a text", "what it writes depends on the words; choose another --template")


def _rendered(row: Row, messages: Sequence[Message], marking: Marking, text: str) -> list[Span] | None:
    """Where the marked texts stand in `text`, the rendering of `messages`; None where marks change it."""
    shown = [_marked(m, i) if mark else m for i, (m, mark) in enumerate(zip(messages, marking.turns, strict=True))]
    tools = _mark_leaves(list(row.tools), TOOL, 0) if marking.tools else row.tools
    try:
        plain, spans = _unmark(row.template.render(shown, row.generate, tools))
    except RowRejected:  # of the marks: the row itself has been rendered
        return None
    return spans if plain == text else None


def _markings(row: Row) -> Iterator[Marking]:
    """What to mark, the most first."""
    every = tuple(True for _ in row.messages)
    asked = tuple(not m.learnt for m in row.messages)
    others = tuple(not m.learnt and m.role != "assistant" for m in row.messages)
    free = [m.content for m, own, other in zip(row.messages, asked, others, strict=True) if own and not other]
    levels = [every, asked, others] if not any(map(row.template.special.search, free)) else [every, asked]
    spelt = not row.tools or row.template.special.search(json.dumps(row.tools, ensure_ascii=False))
    for turns, tools in itertools.product(dict.fromkeys(levels), [True] if spelt else [True, False]):
        yield Marking(turns, tools)


def _check_tools(row: Row, spans: list[Span], marking: Marking) -> None:
    """Raise RowRejected where the tools on offer are not written."""
    if not row.tools:
        return
    if marking.tools:
        written = any(span.kind == TOOL for span in spans)
    else:
        written = row.template.render(row.messages, row.generate) != row.text
    if not written:
        raise no_place_for_tools()


def _check_turns(row: Row, spans: list[Span], marking: Marking) -> None:
    """Raise RowRejected where a marked text or call is not written, or is written otherwise, or a text twice."""
    found: dict[tuple[str, int], list[str]] = {}
    for span in spans:
        found.setdefault((span.kind, span.turn), []).append(row.text[span.start : span.end])
    for i, message in enumerate(row.messages):
        if not marking.turns[i]:
            continue
        texts, core = found.get((TEXT, i), []), message.content.strip()
        if texts and core not in texts and message.role != "tool":  # what a tool says may be quoted
            raise RowRejected("template changes a text", f"turn {i + 1}; choose another with --template")
        if len(texts) != bool(core):
            raise RowRejected("template drops or repeats a turn", f"turn {i + 1}; choose another with --template")
        if not {call["function"]["name"] for call in message.tool_calls} <= set(found.get((CALL, i), [])):
            raise no_place_for_tools()


def no_place_for_tools() -> RowRejected:
    """Why a row with tools or calls cannot be written by a template that does not know them."""
    return RowRejected(NO_TOOLS, "choose a template that has, or --tools text")


def _with_blanks(row: Row, spans: list[Span], marking: Marking) -> list[Span]:
    """`spans` with those blanks at the ends of texts that the template has kept.

    They are what the row has more than the same row without them. Raises RowRejected where that is not all.
    """
    bare = [
        m._replace(content=m.content.strip()) if mark and m.content.strip() and m.role != "tool" else m
        for m, mark in zip(row.messages, marking.turns, strict=True)
    ]
    if bare == list(row.messages):
        return spans
    text = row.template.render(bare, row.generate, row.tools)
    bare_spans = _rendered(row, bare, marking, text)
    if bare_spans is None or [s[2:] for s in bare_spans] != [s[2:] for s in spans]:
        raise _more_than_strips()
    before, behind = zip(*(_blanks(row, span) for span in spans), strict=True)
    kept = [
        _kept(*piece)
        for piece in zip(
            between(row.text, (s[:2] for s in spans)),
            between(text, (s[:2] for s in bare_spans)),
            ("", *behind),
            (*before, ""),
            strict=True,
        )
    ]
    return [s._replace(start=s.start - kept[i][1], end=s.end + kept[i + 1][0]) for i, s in enumerate(spans)]


def _blanks(row: Row, span: Span) -> tuple[str, str]:
    """The blanks at the beginning and at the end of the turn's text."""
    if span.kind != TEXT:
        return "", ""
    content = row.messages[span.turn].content
    return content[: len(content) - len(content.lstrip())], content[len(content.rstrip()) :]


def _kept(piece: str, bare: str, behind: str, before: str) -> tuple[int, int]:
    """How much of the blanks `behind` a text and `before` the next one stands in `piece`, around `bare`, in characters."""
    more = len(piece) - len(bare)
    for right in range(min(len(behind), more), -1, -1):
        left = more - right
        if left > len(before):
            break
        if piece == behind[:right] + bare + before[len(before) - left :]:
            return right, left
    raise _more_than_strips()


def _more_than_strips() -> RowRejected:
    return RowRejected("template changes a text", "it does more than strip it; choose another --template")


def _start(row: Row, spans: list[Span], turn: int) -> int:
    """Where a learnt turn begins, in characters: an answer where its prompt ends."""
    from nlpft.templates._chat import no_prompt, rewritten

    first = next((span.start for span in spans if span.turn == turn and span.kind != TOOL), len(row.text))
    if row.messages[turn].role != "assistant":  # learnt by the row's own wish: it has no prompt
        return first
    try:
        prompt = row.template.render(row.messages[:turn], True, row.tools)
    except RowRejected as why:
        raise no_prompt(turn, why) from why
    if not row.text.startswith(prompt) or len(prompt) > first:
        raise rewritten(turn)
    return len(prompt)


def _find(row: Row, turn: int, start: int) -> Span:
    """Where a learnt text stands that is not marked, or blank: behind its prompt."""
    core = row.messages[turn].content.strip()
    at = row.text.find(core, start)
    if at < 0 or row.messages[turn].tool_calls or row.template.special.search(row.text, start, at):
        raise RowRejected(
            "template changes a text",
            f"turn {turn + 1} is not written as it is; learn only the last answer, or choose another --template",
        )
    return Span(at, at + len(core), TEXT, turn)


def _stop(row: Row, spans: list[Span], turn: int) -> int:
    """Where a learnt turn ends, in characters: behind its end-of-turn token. Raises ModelError where there is none."""
    end = max(span.end for span in spans if span.turn == turn and span.kind != TOOL)
    later = [span.start for span in spans if span.turn > turn and span.start >= end]
    following = min(later, default=len(row.text))
    stops = list(row.template.special.finditer(row.text, end, following))
    if not stops:
        row.template.ending(row.text[end:following])  # raises, with the reason
    if not row.messages[turn].tool_calls:
        return stops[0].end()
    # Some calls are closed by special tokens of their own: the last one belongs to the turn.
    alone = row.template.render(row.messages[: turn + 1], False, row.tools)
    inside = [stop.end() for stop in stops if stop.end() <= len(alone)]
    if not row.text.startswith(alone) or not inside:
        from nlpft.templates._chat import rewritten

        raise rewritten(turn)
    return inside[-1]


def _cut(row: Row, spans: list[Span], learnt: list[tuple[int, int]]) -> list[Segment]:
    """The text, cut at the edges of texts and of what is learnt."""
    text, length = row.text, len(row.text)
    edges = sorted({0, length, *(e for s in spans for e in s[:2]), *(e for pair in learnt for e in pair)})
    contents, answers = iter([*spans, Span(length, length, TOOL, 0)]), iter([*learnt, (length, length)])
    content, answer = next(contents), next(answers)
    out = []
    for start, end in itertools.pairwise(edges):
        while content.end <= start < length:
            content = next(contents)
        while answer[1] <= start < length:
            answer = next(answers)
        inside = content.start <= start < content.end
        role = ("system" if content.kind == TOOL else row.messages[content.turn].role) if inside else ""
        out.append(Segment(text[start:end], answer[0] <= start < answer[1], not inside, role))
    return out


def _marked(message: Message, turn: int) -> Message:
    """`message` with marks around its text, inside the blanks at its ends, and around the words of its tool calls."""
    calls = tuple(_mark_leaves(list(message.tool_calls), CALL, turn))
    return message._replace(content=_mark(message.content, TEXT, turn), tool_calls=calls)


def _mark(text: str, kind: str, turn: int) -> str:
    core = text.strip()
    if not core:
        return text
    at, label = text.index(core), f"{kind}{turn}"
    return f"{text[:at]}{MARK}{label}{CLOSE}{core}{CLOSE}{label}{MARK}{text[at + len(core) :]}"


def _mark_leaves(value: Any, kind: str, turn: int) -> Any:
    """A copy of `value` in which every text is marked, but for types, which templates ask for."""
    if isinstance(value, str):
        return _mark(value, kind, turn)
    if isinstance(value, dict):
        return {k: v if k == "type" else _mark_leaves(v, kind, turn) for k, v in value.items()}
    return [_mark_leaves(v, kind, turn) for v in value] if isinstance(value, list) else value


def _unmark(marked: str) -> tuple[str, list[Span] | None]:
    """The text without marks, and where the marked texts stand in it; None where a mark has lost its partner."""
    out: list[str] = []
    spans: list[Span] = []
    length, at, opened = 0, 0, None
    for edge in EDGE.finditer(marked):
        out.append(marked[at : edge.start()])
        length, at = length + len(out[-1]), edge.end()
        if edge[1] and opened is None:
            opened = Span(length, length, edge[1], int(edge[2]))
        elif opened is not None and edge[3] == opened.kind and int(edge[4]) == opened.turn:
            spans.append(opened._replace(end=length))
            opened = None
        else:
            return "".join([*out, marked[at:]]), None
    out.append(marked[at:])
    text = "".join(out)
    return text, None if opened or MARK in text or CLOSE in text else spans
