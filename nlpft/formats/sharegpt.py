"""ShareGPT: {"conversations": [{"from": "human" | "gpt" | "system" | ..., "value": str}, ...], "system": str (optional)}."""

from typing import Any

from nlpft.errors import RowRejected
from nlpft.formats._fields import text
from nlpft.types import Message, Role

ROLES: dict[str, Role] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "assistant": "assistant",
    "tool": "tool",
    "observation": "tool",
}


def matches(record: dict[str, Any]) -> bool:
    return "conversations" in record


def parse(record: dict[str, Any]) -> tuple[Message, ...]:
    turns = record.get("conversations")
    if not isinstance(turns, list):
        raise RowRejected("no list of turns", "the key 'conversations' should hold one")
    if record.get("tools"):
        raise RowRejected("tools", "tool schemas are not read yet, and without them the answers teach calls to nothing")
    system = (Message("system", text(record["system"], "system")),) if record.get("system") else ()
    return (*system, *(_message(turn) for turn in turns))


def _message(turn: Any) -> Message:
    if not isinstance(turn, dict) or "from" not in turn or "value" not in turn:
        raise RowRejected("turn without 'from' and 'value'", f"got {turn!r:.60}")
    role = ROLES.get(text(turn["from"], "from"))
    if role is None:
        raise RowRejected("unknown role", f"{turn['from']!r}; known: {', '.join(ROLES)}")
    return Message(role, text(turn["value"], "value"))
