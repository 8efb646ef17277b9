"""Rows -> conversations: the row's format, its repairs, and which turns are learnt."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any, Literal, get_args

from nlpft import plugins
from nlpft.data.repair import GAP, Repairs, merged, repair
from nlpft.errors import RowRejected
from nlpft.formats._fields import Columns, Roles, find, keys
from nlpft.formats._tools import bare_calls, to_json
from nlpft.formats._turns import ALIAS
from nlpft.types import Conversation, Message, Record, Role

Which = Literal["all", "last", "first"]  # of the turns that a role lets learn

TOOLS_AS_TEXT = "tools as text"
TOOLS_PROMPT = (
    'You can call functions. To call one, answer with a line of JSON: {"name": ..., "arguments": {...}}. '
    "The functions, as JSON schemas:\n"
)


@dataclass(frozen=True)
class Reading:
    """How a row is understood."""

    format: str = "auto"
    """A format (`nlpft list formats`), a dotted name of your own, or auto: told by each row's keys."""
    columns: Columns = Columns()
    roles: Roles = Roles()
    repairs: Repairs = Repairs()
    learn: Literal["all", "last", "first", "field"] = "all"
    """Which turns are learnt: all of the roles in learn_roles, the last, the first, or only what a field of the row or of its
    turns marks (columns.train). A turn that is marked 0 is never learnt."""
    learn_roles: tuple[Role, ...] = ("assistant",)
    """Whose turns are learnt."""
    tools: Literal["auto", "template", "text"] = "auto"
    """Where tools and their calls are written: by the chat template, as text into the turns, or auto: as text only where the
    template has no place for them."""


def conversation(record: Record, reading: Reading = Reading(), suspect: bool = False) -> Conversation:
    """What a row says, repaired, with what is learnt marked; `notes` says what was done.

    `suspect`: the row may hold half surrogate pairs, as no row does that orjson has read. Raises RowRejected.
    """
    try:
        return _conversation(record.data, record.source, reading, suspect)
    except RecursionError:
        raise RowRejected("row is nested too deeply") from None


def _conversation(data: Any, source: str, reading: Reading, suspect: bool) -> Conversation:
    if not isinstance(data, dict):
        raise RowRejected("not an object", f"a row is a {'null' if data is None else type(data).__name__}")
    found = _format(data, reading).parse(data, reading.columns, reading.roles)
    if suspect:
        _check_unicode(found)
    if found.text:
        return found._replace(source=source)
    if ALIAS in found.notes and not reading.repairs.role_alias:
        raise RowRejected("role alias", "the repair role_alias is off")
    messages, notes = _repaired(_marked(found.messages, data, reading), reading)
    found = Conversation(messages, found.tools, found.id, source, found.notes + notes)
    return as_text(found) if reading.tools == "text" else found


@lru_cache
def _formats() -> tuple[ModuleType, ...]:
    return tuple(plugins.load("formats", name) for name in plugins.names("formats"))


def _format(data: dict[str, Any], reading: Reading) -> ModuleType:
    """The row's format. Raises RowRejected, and ConfigError where a format is named that is not there."""
    if reading.format != "auto":
        return _named(reading.format)
    for module in _formats():
        if module.matches(data, reading.columns):
            return module
    raise RowRejected("unknown format", keys(data))


_named = lru_cache(lambda name: plugins.load("formats", name))


def _check_unicode(found: Conversation) -> None:
    """Raise RowRejected where a text holds half a surrogate pair, which no tokenizer can encode."""
    calls = [call for message in found.messages for call in message.tool_calls]
    texts = [*(m.content for m in found.messages), found.text, found.id, to_json(found.tools), to_json(calls)]
    for text in texts:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise RowRejected("not valid Unicode", f"half a surrogate pair at character {error.start}") from None


def _repaired(messages: tuple[Message, ...], reading: Reading) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """The messages, mended, with the first or last turn chosen. Raises RowRejected where nothing is left to learn."""
    if not messages:
        raise RowRejected("empty conversation")
    mended, notes = repair(messages, reading.repairs)
    if not any(message.learnt for message in mended):
        raise _nothing_learnt(messages, mended)
    if reading.learn == "last" or reading.learn == "first":
        mended = _only(mended, reading.learn)
    return mended, notes


def _nothing_learnt(before: Iterable[Message], after: Iterable[Message]) -> RowRejected:
    if {"user", "assistant"} <= {m.role for m in after}:
        return RowRejected("nothing is learnt", "every turn is marked as context")
    answers = [m for m in before if m.role == "assistant"]
    if answers and not any(m.content.strip() or m.tool_calls for m in answers):
        return RowRejected("empty answer")
    return RowRejected("no answer", "an answer comes before any question" if answers else "")


def _marked(messages: tuple[Message, ...], data: dict[str, Any], reading: Reading) -> tuple[Message, ...]:
    """The turns with `train` set where it is not what the role says: by fields of the row or its turns, and by role."""
    if reading.learn == "field":
        return _by_field(messages, data, reading)
    roles = reading.learn_roles
    if roles == ("assistant",) and all(m.train is None for m in messages):
        return messages
    return tuple(_train(m, m.role in roles if m.train is None else m.train) for m in messages)


def _by_field(messages: tuple[Message, ...], data: dict[str, Any], reading: Reading) -> tuple[Message, ...]:
    """What the row's own field says, or else its turns'. Raises RowRejected where neither does."""
    key = find(data, reading.columns.train, ("train",))
    if key is not None and data[key] is not None:
        return _by_row(messages, data[key], reading)
    if all(m.train is None for m in messages):
        raise RowRejected("no field says what is learnt")
    return tuple(_train(m, m.train is True) for m in messages)


def _by_row(messages: tuple[Message, ...], mark: Any, reading: Reading) -> tuple[Message, ...]:
    able = [m.role in reading.learn_roles for m in messages]
    if mark in get_args(Which):
        numbers = [i for i, yes in enumerate(able) if yes]
        able = [yes and (mark == "all" or i == numbers[-1 if mark == "last" else 0]) for i, yes in enumerate(able)]
    elif isinstance(mark, list) and len(mark) == len(messages) and all(one in (0, 1) for one in mark):
        able = [bool(one) for one in mark]
    elif mark is False:
        able = [False] * len(messages)
    elif mark is not True:
        raise RowRejected("field does not say what is learnt", f"got {mark!r:.60} for {len(messages)} turns")
    return tuple(_train(m, yes) for m, yes in zip(messages, able, strict=True))


def _only(messages: tuple[Message, ...], which: Literal["last", "first"]) -> tuple[Message, ...]:
    numbers = [i for i, message in enumerate(messages) if message.learnt]
    chosen = numbers[-1 if which == "last" else 0]
    return tuple(_train(m, False) if m.learnt and i != chosen else m for i, m in enumerate(messages))


def _train(message: Message, train: bool) -> Message:
    """`train` stays None where it says what the role says: so that rows of one kind look alike to templates."""
    return message._replace(train=None if train == (message.role == "assistant") else train)


def as_text(conversation: Conversation) -> Conversation:
    """The same for a template that has no place for tools: their schemas stand as JSON text in the system turn, calls in the
    assistant's, one a line behind its text; what tools gave back becomes a turn of the user."""
    messages = [_as_text(message) for message in conversation.messages]
    if conversation.tools:
        schemas = [to_json(tool.get("function", tool)) for tool in conversation.tools]
        messages = _with_system(messages, TOOLS_PROMPT + "\n".join(schemas))
    elif messages == list(conversation.messages):
        return conversation
    notes = (*conversation.notes, TOOLS_AS_TEXT)
    return conversation._replace(messages=tuple(merged(messages)), tools=(), notes=notes)


def _as_text(message: Message) -> Message:
    if message.role == "tool":
        return message._replace(role="user")
    if not message.tool_calls:
        return message
    lines = [message.content] if message.content else []
    return message._replace(content="\n".join([*lines, *map(to_json, bare_calls(message.tool_calls))]), tool_calls=())


def _with_system(messages: list[Message], text: str) -> list[Message]:
    """The messages with more text in their system turn."""
    if messages and messages[0].role == "system":
        return [messages[0]._replace(content=messages[0].content + GAP + text), *messages[1:]]
    return [Message("system", text), *messages]
