"""Repairs of conversations: what a chat template cannot render or should not teach is mended, and every repair is named.

No repair changes a byte of an assistant's text, and no answer to a user's turn is lost.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Literal

from nlpft.errors import RowRejected
from nlpft.types import Message

BOM = "\ufeff"
GAP = "\n\n"  # between texts that become one turn

DROPPED = "leading answer dropped"
CONTEXT = "leading answer kept as context"
TRIMMED = "trailing user turn trimmed"
TRIMMED_TOOL = "trailing tool turn trimmed"
MERGED = "turns of one role merged"
HOISTED = "system turn hoisted"
JOINED = "system turns joined"
BLANK = "blank turn dropped"
NO_BOM = "byte order mark removed"
LF = "CRLF made LF"

Messages = Sequence[Message]
Step = Callable[["list[Message]", "Repairs"], "tuple[list[Message], tuple[str, ...]]"]


@dataclass(frozen=True)
class Repairs:
    """What is mended in a row that is not as it should be. With a repair switched off such rows are rejected."""

    leading_answer: Literal["drop", "context", "off"] = "drop"
    """An answer before any question: dropped, or kept as context that is not learnt."""
    trailing_turn: bool = True
    """Turns of the user or of tools behind the last answer are trimmed."""
    merge_turns: bool = True
    """Neighbouring turns of one role become one, with an empty line between their texts."""
    hoist_system: bool = True
    """A system turn in the middle moves to the front."""
    join_systems: bool = True
    """Several system turns become one, with an empty line between their texts."""
    blank_turn: bool = True
    """Turns without text are dropped."""
    bom: bool = True
    """A byte order mark at the beginning of a text is removed (not an assistant's)."""
    crlf: bool = True
    """CRLF line ends become LF (not an assistant's)."""
    role_alias: bool = True
    """Roles may be called by names that are not the format's own, such as bing for gpt."""
    lost_bytes: bool = True
    """Rows with bytes that the vocabulary lacks are kept without these bytes."""


def repair(messages: Messages, repairs: Repairs) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """The conversation that is meant, and what was mended, as fixed phrases in the order of the repairs.

    Raises RowRejected where a repair is needed that is switched off.
    """
    if is_regular(messages):
        return tuple(messages), ()
    now = list(messages)
    notes: list[str] = []
    for step in STEPS:
        now, done = step(now, repairs)
        notes += done
    return tuple(now), tuple(dict.fromkeys(notes))


def is_regular(messages: Messages) -> bool:
    """Whether there is certainly nothing to mend. Quick, as most rows pass: nothing in it is done turn by turn in Python."""
    if len(messages) < 2:
        return False
    roles, contents, *_ = zip(*messages, strict=True)
    start = 1 if roles[0] == "system" else 0
    half, odd = divmod(len(roles) - start, 2)
    if odd or roles[start::2].count("user") != half or roles[start + 1 :: 2].count("assistant") != half:
        return False
    if "" in contents or any(map(str.isspace, contents)):
        return False
    others = contents[::2] if not start else contents[1::2] + contents[:1]
    return not any(text[0] == BOM or "\r\n" in text for text in others)


def _mended(repairs: Repairs, switch: str, reason: str) -> None:
    """Raise RowRejected where a repair that is needed is switched off."""
    if getattr(repairs, switch) in (False, "off"):
        raise RowRejected(reason, f"the repair {switch} is off")


def _bom(messages: list[Message], repairs: Repairs) -> tuple[list[Message], tuple[str, ...]]:
    if not any(m.content[:1] == BOM for m in messages if _is_prompt(m)):
        return messages, ()
    _mended(repairs, "bom", "byte order mark")
    return [m._replace(content=m.content.removeprefix(BOM)) if _is_prompt(m) else m for m in messages], (NO_BOM,)


def _crlf(messages: list[Message], repairs: Repairs) -> tuple[list[Message], tuple[str, ...]]:
    if not any("\r\n" in m.content for m in messages if _is_prompt(m)):
        return messages, ()
    _mended(repairs, "crlf", "CRLF line ends")
    return [m._replace(content=m.content.replace("\r\n", "\n")) if _is_prompt(m) else m for m in messages], (LF,)


def _is_prompt(message: Message) -> bool:
    return message.role in ("system", "user")


def _blank(messages: list[Message], repairs: Repairs) -> tuple[list[Message], tuple[str, ...]]:
    """A blank first question that is answered stays: dropped, it would take the answer with it."""
    first = next((i for i, m in enumerate(messages) if m.role == "user"), len(messages))
    before, question, after = messages[:first], messages[first : first + 1], _filled(messages[first + 1 :])
    if next((m.role for m in after if m.role != "system"), "user") == "user":
        question = _filled(question)
    kept = _filled(before) + question + after
    if len(kept) == len(messages):
        return messages, ()
    _mended(repairs, "blank_turn", "blank turn")
    return kept, (BLANK,)


def _filled(messages: list[Message]) -> list[Message]:
    return [m for m in messages if not _is_blank(m)]


def _is_blank(message: Message) -> bool:
    """A tool may give back nothing, and an answer may be only a call; no other turn is without text."""
    if message.tool_calls or message.role == "tool":
        return False
    return not message.content or message.content.isspace()


def _systems(messages: list[Message], repairs: Repairs) -> tuple[list[Message], tuple[str, ...]]:
    systems = [m for m in messages if m.role == "system"]
    first = sum(1 for _ in takewhile(lambda m: m.role == "system", messages))
    if not systems or (len(systems) == 1 and first == 1):
        return messages, ()
    notes = []
    if first < len(systems):
        _mended(repairs, "hoist_system", "system turn in the middle")
        notes.append(HOISTED)
    if len(systems) > 1:
        _mended(repairs, "join_systems", "several system turns")
        notes.append(JOINED)
    system = systems[0]._replace(content=GAP.join(m.content for m in systems))
    return [system, *(m for m in messages if m.role != "system")], tuple(notes)


def _leading(messages: list[Message], repairs: Repairs) -> tuple[list[Message], tuple[str, ...]]:
    """Calls of tools before the first question and what they gave back go with the answers."""
    start = 1 if messages and messages[0].role == "system" else 0
    first = next((i for i, m in enumerate(messages) if m.role == "user"), len(messages))
    if first <= start:
        return messages, ()
    _mended(repairs, "leading_answer", "begins with an answer")
    if repairs.leading_answer == "drop":
        return messages[:start] + messages[first:], (DROPPED,)
    context = [m._replace(train=False) if m.learnt else m for m in messages[start:first]]
    return messages[:start] + context + messages[first:], (CONTEXT,)


def _trailing(messages: list[Message], repairs: Repairs) -> tuple[list[Message], tuple[str, ...]]:
    end = len(messages)
    while end and messages[end - 1].role in ("user", "tool") and not messages[end - 1].learnt:
        end -= 1
    if end == len(messages):
        return messages, ()
    _mended(repairs, "trailing_turn", "ends without an answer")
    roles = {m.role for m in messages[end:]}
    return messages[:end], tuple(note for role, note in (("user", TRIMMED), ("tool", TRIMMED_TOOL)) if role in roles)


def _merge(messages: list[Message], repairs: Repairs) -> tuple[list[Message], tuple[str, ...]]:
    if not any(_same(a, b) for a, b in pairwise(messages)):
        return messages, ()
    _mended(repairs, "merge_turns", "two turns of one role")
    return list(merged(messages)), (MERGED,)


def merged(messages: Iterable[Message]) -> Iterator[Message]:
    """The turns, where neighbours of one role are one turn with an empty line between their texts."""
    run: list[Message] = []
    for message in messages:
        if run and not _same(run[-1], message):
            yield _one(run)
            run = []
        run.append(message)
    if run:
        yield _one(run)


def _one(run: Sequence[Message]) -> Message:
    content = GAP.join(m.content for m in run if m.content)
    return run[0]._replace(content=content, tool_calls=tuple(call for m in run for call in m.tool_calls))


def _same(a: Message, b: Message) -> bool:
    """Whether two neighbours can be one turn: results of tools stay apart, and no text moves before a call."""
    if a.role != b.role or a.role == "tool" or a.learnt != b.learnt:
        return False
    return not (a.tool_calls and b.content)


STEPS: tuple[Step, ...] = (_bom, _crlf, _blank, _systems, _leading, _trailing, _merge)
