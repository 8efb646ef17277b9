"""OpenAI's messages: {"messages": [{"role": "system" | "user" | "assistant" | "tool", "content": str or parts}, ...]}.

Optional: "tools": list of schemas; in a turn "tool_calls", "weight" (0: not learnt). Results belong to calls by their order:
they are put in it by `tool_call_id`, which is left out then, as is `name`.
"""

from typing import Any

from nlpft.errors import RowRejected
from nlpft.formats._fields import Columns, Roles, named, no_place
from nlpft.formats._tools import to_json
from nlpft.formats._turns import is_openai, openai_names, parse_turns, turns_key
from nlpft.types import Conversation, Message

ORDERED = "results put in the order of their calls"


def matches(record: dict[str, Any], columns: Columns) -> bool:
    return is_openai(record, columns) is True


def parse(record: dict[str, Any], columns: Columns, roles: Roles) -> Conversation:
    key = turns_key(record, columns)
    turns = record[key] if key is not None else None
    if key is None or not isinstance(turns, list) or not any(map(_call_id, turns)):
        return parse_turns(record, columns, openai_names(roles))
    ordered = _in_order_of_calls(turns)
    found = parse_turns({**record, key: ordered}, columns, openai_names(roles))
    return found if ordered == turns else found._replace(notes=(*found.notes, ORDERED))


def _call_id(turn: Any) -> Any:
    return turn.get("tool_call_id") if isinstance(turn, dict) else None


def _in_order_of_calls(turns: list) -> list:
    """The same turns, where the results that follow calls stand in the order of the calls. Raises RowRejected."""
    ordered: list = []
    calls: list = []
    results: list[tuple[int, Any]] = []  # number of its call, and the turn
    for turn in [*turns, None]:
        found = _call_id(turn)
        if found is not None and found not in calls:
            raise RowRejected("result of no call", f"tool_call_id {found!r:.60}")
        if found is not None:
            results.append((calls.index(found), turn))
            continue
        ordered += [result for _, result in sorted(results, key=lambda pair: pair[0])]
        results = []
        if isinstance(turn, dict) and isinstance(turn.get("tool_calls"), list):
            calls = [call.get("id") for call in turn["tool_calls"] if isinstance(call, dict)]
        ordered.append(turn)
    return ordered[:-1]


def write(conversation: Conversation) -> dict[str, Any]:
    if conversation.text:
        no_place("raw text")
    row: dict[str, Any] = {"messages": [turn(message) for message in conversation.messages]}
    if conversation.tools:
        row["tools"] = list(conversation.tools)
    return named(conversation, row)


def turn(message: Message) -> dict[str, Any]:
    """One message as OpenAI writes it: arguments of calls are JSON text, `weight` stands where the role does not say it."""
    row: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        row["tool_calls"] = [{"type": "function", "function": _as_text(c["function"])} for c in message.tool_calls]
    if message.learnt != (message.role == "assistant"):
        row["weight"] = int(message.learnt)
    return row


def _as_text(function: dict[str, Any]) -> dict[str, Any]:
    arguments = function["arguments"]
    return {"name": function["name"], "arguments": arguments if isinstance(arguments, str) else to_json(arguments)}
