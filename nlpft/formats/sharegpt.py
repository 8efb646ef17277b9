"""ShareGPT: {"conversations": [{"from": "human" | "gpt" | "system" | "function_call" | "observation", "value": str}, ...]}.

Optional: "system": str, "tools": JSON text or a list of schemas, "chosen" and "rejected": turns; "weight" in a turn.
"""

from typing import Any

from nlpft.formats._fields import Columns, Roles, named, no_place
from nlpft.formats._tools import bare_calls, to_json
from nlpft.formats._turns import is_openai, parse_turns, sharegpt_names
from nlpft.types import Conversation, Message

NAMES = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}


def matches(record: dict[str, Any], columns: Columns) -> bool:
    return is_openai(record, columns) is False


def parse(record: dict[str, Any], columns: Columns, roles: Roles) -> Conversation:
    return parse_turns(record, columns, sharegpt_names(roles))


def write(conversation: Conversation) -> dict[str, Any]:
    if conversation.text:
        no_place("raw text")
    row: dict[str, Any] = {"conversations": [turn for m in conversation.messages for turn in _turns(m)]}
    if conversation.tools:
        row["tools"] = to_json(conversation.tools)
    return named(conversation, row)


def _turns(message: Message) -> list[dict[str, Any]]:
    """A message as one turn, or two where text is followed by calls."""
    weight = {} if message.learnt == (message.role == "assistant") else {"weight": int(message.learnt)}
    turns = []
    if message.content or not message.tool_calls:
        turns.append({"from": NAMES[message.role], "value": message.content, **weight})
    if message.tool_calls:
        calls = bare_calls(message.tool_calls)
        turns.append({"from": "function_call", "value": to_json(calls[0] if len(calls) == 1 else calls), **weight})
    return turns
