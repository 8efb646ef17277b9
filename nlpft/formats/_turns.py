"""Lists of turns, which ShareGPT's and OpenAI's rows share: roles, contents, calls of tools, what is learnt, chosen answers."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from nlpft.errors import RowRejected
from nlpft.formats._fields import (
    CHOSEN,
    CONTENT,
    LABEL,
    MEDIA,
    MESSAGES,
    ROLE,
    SYSTEM,
    TOOLS,
    TRAIN,
    USED_CHOSEN,
    Columns,
    Roles,
    find,
    keys,
    name,
    optional_text,
    refuse,
    text,
    value,
)
from nlpft.formats._tools import read_calls, read_tools
from nlpft.types import Conversation, Message

CALL = "function_call"  # in tables of roles: an assistant's turn whose text is the JSON of a call
ALIAS = "role alias"
MAPPED = "role mapping"

SHAREGPT = {"system": "system", "human": "user", "gpt": "assistant", "function_call": CALL, "observation": "tool"}
OPENAI = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
ALIASES = {  # lower case
    **dict.fromkeys(("chatgpt", "bing", "bard", "claude", "bot", "chatbot", "ai", "model", "answer"), "assistant"),
    **dict.fromkeys(("prompter", "person", "client", "customer", "question"), "user"),
    **dict.fromkeys(("tool_response", "function_response", "function-response", "tool_result", "ipython"), "tool"),
    **dict.fromkeys(("tool_call", "function-call", "functioncall"), CALL),
    **dict.fromkeys(("instruction", "system_prompt", "context"), "system"),
    **SHAREGPT,
    **OPENAI,
}
KNOWN = Columns()
BESIDE_TURNS = frozenset({*SYSTEM, *TOOLS, *CHOSEN, *LABEL, *MEDIA})
REASONING = ("reasoning_content", "reasoning", "thinking")


class Names(NamedTuple):
    """What roles are called in a format."""

    standard: dict[str, str]  # the format's own names
    others: dict[str, tuple[str, str]]  # more names -> role and the note that its use leaves


class Turns(NamedTuple):
    """A list of turns, read."""

    messages: list[Message]
    notes: tuple[str, ...] = ()


@lru_cache
def sharegpt_names(roles: Roles) -> Names:
    return _names(SHAREGPT, roles)


@lru_cache
def openai_names(roles: Roles) -> Names:
    return _names(OPENAI, roles)


def _names(standard: Mapping[str, str], roles: Roles) -> Names:
    """The user's names go before the format's."""
    own = {
        word: (role, MAPPED) for role in ("system", "user", "assistant", "tool", CALL) for word in getattr(roles, role)
    }
    known = {word: (role, ALIAS) for word, role in ALIASES.items()}
    return Names({word: role for word, role in standard.items() if word not in own}, known | own)


def turns_key(record: Mapping[str, Any], columns: Columns) -> str | None:
    """The key of the row's list of turns; None where it has none.

    A row of preferences without a prompt has the whole conversation in its `chosen`, one of KTO in its `completion`.
    """
    key = find(record, columns.messages, MESSAGES)
    if key is not None or columns.messages is not None or "prompt" in record:
        return key
    return next((k for k in ("chosen", "completion") if is_turns(record.get(k)) and len(record[k]) > 1), None)


def is_turns(found: Any) -> bool:
    """Whether this is a list of turns and not a text."""
    return isinstance(found, list) and bool(found) and isinstance(found[0], dict)


def is_openai(record: Mapping[str, Any], columns: Columns) -> bool | None:
    """Whether the row's turns are written as OpenAI does (`role`), not as ShareGPT (`from`); None: it has no turns."""
    key = turns_key(record, columns)
    if key is None:
        return None
    turns = record[key]
    first = turns[0] if is_turns(turns) else {}
    if "from" in first or "value" in first:
        return False
    return "role" in first or key == "messages"


def parse_turns(record: Mapping[str, Any], columns: Columns, names: Names) -> Conversation:
    """A row whose turns are a list. Raises RowRejected."""
    key = turns_key(record, columns)
    turns = read_turns(None if key is None else record[key], columns, names)
    found = Conversation(tuple(turns.messages), (), name(record, columns), "", turns.notes)
    if columns == KNOWN and BESIDE_TURNS.isdisjoint(record):
        return found  # as most rows: nothing stands beside the turns
    return _with_columns(found, turns, record, columns, names)


def _with_columns(
    found: Conversation, turns: Turns, record: Mapping[str, Any], columns: Columns, names: Names
) -> Conversation:
    """The conversation with what stands beside its turns: a chosen answer, a system prompt, tools."""
    refuse(record, columns)
    if turns_key(record, columns) == find(record, columns.chosen, CHOSEN):
        turns = Turns(turns.messages, (*turns.notes, USED_CHOSEN))
    else:
        turns = with_chosen(turns, value(record, columns.chosen, CHOSEN), columns, names)
    system = optional_text(record, columns.system, SYSTEM)
    messages = [Message("system", system), *turns.messages] if system else turns.messages
    tools = read_tools(value(record, columns.tools, TOOLS))
    return found._replace(messages=tuple(messages), tools=tools, notes=turns.notes)


def with_chosen(turns: Turns, chosen: Any, columns: Columns, names: Names) -> Turns:
    """`turns` with the answer that the row prefers: one turn, its text, or a list of turns (the whole conversation, too)."""
    if chosen is None:
        return turns
    if isinstance(chosen, str):
        answer = Turns([Message("assistant", chosen)])
    else:
        answer = read_turns([chosen] if isinstance(chosen, dict) else chosen, columns, names)
    notes = (*dict.fromkeys((*turns.notes, *answer.notes)), USED_CHOSEN)
    if not answer.messages or answer.messages[0].role in ("system", "user"):
        return Turns(answer.messages, notes)
    if turns.messages and turns.messages[-1].role == "assistant":
        raise RowRejected("two answers to one question", "the turns end with an answer, and 'chosen' is another")
    return Turns(turns.messages + answer.messages, notes)


def read_turns(turns: Any, columns: Columns, names: Names) -> Turns:
    """Messages of a list of turns, whose texts are left as they are. Raises RowRejected."""
    if not isinstance(turns, list):
        raise RowRejected("no list of turns", f"got {turns!r:.60}")
    role_key, content_key = _keys(turns, columns)
    standard = names.standard
    messages: list[Message] = []
    notes: dict[str, None] = {}
    for turn in turns:
        try:
            role, content = standard[turn[role_key]], turn[content_key]
        except (KeyError, TypeError, IndexError):
            role, content = CALL, None
        if content.__class__ is str and len(turn) == 2 and role is not CALL:
            messages.append(Message(role, content))  # type: ignore[arg-type]
        else:
            _append(messages, *_careful(turn, columns, names, notes))
    return Turns(messages, tuple(notes))


def _keys(turns: list, columns: Columns) -> tuple[str, str]:
    """The keys of role and content in the first turn, which the others probably share."""
    first = turns[0] if is_turns(turns) else {}
    return find(first, columns.role, ROLE) or "from", find(first, columns.content, CONTENT) or "value"


def _append(messages: list[Message], message: Message, called: bool) -> None:
    """Add a turn; one that is only a call belongs to the assistant's text before it."""
    last = messages[-1] if messages else None
    if called and last is not None and last.role == "assistant" and last.learnt == message.learnt:
        messages[-1] = last._replace(tool_calls=last.tool_calls + message.tool_calls)
    else:
        messages.append(message)


def _careful(turn: Any, columns: Columns, names: Names, notes: dict[str, None]) -> tuple[Message, bool]:
    """A turn with all that it may hold, and whether it is only a call."""
    if not isinstance(turn, dict):
        raise RowRejected("turn without role and content", f"got {turn!r:.60}")
    role_key, content_key = find(turn, columns.role, ROLE), find(turn, columns.content, CONTENT)
    if role_key is None or (content_key is None and not turn.get("tool_calls") and not turn.get("function_call")):
        raise RowRejected("turn without role and content", keys(turn))
    if any(turn.get(key) for key in REASONING):
        raise RowRejected("reasoning in a field of its own", "a turn's text is only what its content holds")
    role = _role(turn[role_key], names, notes)
    content = None if content_key is None else turn[content_key]
    if role == CALL:
        return _weighed("assistant", "", _some(read_calls(content), content), turn, columns), True
    calls = read_calls(turn.get("tool_calls") or turn.get("function_call"))
    if isinstance(content, list):
        words, more = _parts(content)
        return _weighed(role, words, calls + more, turn, columns), False
    words = "" if content is None and calls else text(content, content_key or "content")
    return _weighed(role, words, calls, turn, columns), False


def _some(calls: tuple[dict[str, Any], ...], content: Any) -> tuple[dict[str, Any], ...]:
    if not calls:
        raise RowRejected("tool call not understood", f"got {content!r:.60}")
    return calls


def _role(found: Any, names: Names, notes: dict[str, None]) -> str:
    word = text(found, "role")
    if word in names.standard:
        return names.standard[word]
    role, note = names.others.get(word) or names.others.get(word.strip().lower()) or (None, "")
    if role is None:
        raise RowRejected("unknown role", f"{word!r:.60}; known: {', '.join([*names.standard, *names.others])}")
    notes[note] = None
    return role


def _parts(parts: list) -> tuple[str, tuple[dict[str, Any], ...]]:
    """Content in parts, {"type": "text", "text": str} or "value"; the texts follow each other without anything between."""
    texts: list[str] = []
    calls: tuple[dict[str, Any], ...] = ()
    for part in parts:
        kind = (part.get("type") or "text") if isinstance(part, dict) else "text"
        if kind == "text":
            texts.append(text(value(part, None, ("text", "value")) if isinstance(part, dict) else part, "content part"))
        elif kind == "tool_call":
            calls += read_calls(part.get("value", part))
        elif isinstance(kind, str) and any(word in kind for word in ("image", "audio", "video")):
            raise RowRejected("images, audio or video", f"a content part of type {kind!r}")
        else:
            raise RowRejected("unknown content part", f"type {kind!r:.60}; known: text, tool_call")
    return "".join(texts), calls


def _weighed(role: Any, content: str, calls: tuple[dict[str, Any], ...], turn: dict, columns: Columns) -> Message:
    """The message, with what the turn itself says of being learnt."""
    weight = value(turn, columns.train, TRAIN)
    if weight is None:
        return Message(role, content, None, calls)
    if weight not in (0, 1):
        raise RowRejected("loss weight is neither 0 nor 1", f"got {weight!r:.60}")
    return Message(role, content, bool(weight), calls)
