"""Tools and calls of tools in a row, as OpenAI writes them: {"type": "function", "function": {"name": str, ...}}."""

import json
from collections.abc import Iterable
from typing import Any

from nlpft.errors import RowRejected


def read_tools(found: Any) -> tuple[dict[str, Any], ...]:
    """Schemas of tools from a list or its JSON text; a bare {"name", "parameters"} is wrapped as OpenAI does.

    Raises RowRejected where `found` is neither.
    """
    if not found:
        return ()
    schemas = _loaded(found, "tools not understood")
    schemas = [schemas] if isinstance(schemas, dict) else schemas
    if not isinstance(schemas, list) or not all(isinstance(schema, dict) for schema in schemas):
        raise RowRejected("tools not understood", f"got {schemas!r:.60}; expected a list of JSON schemas")
    return tuple(s if "function" in s else {"type": "function", "function": s} for s in schemas)


def read_calls(found: Any) -> tuple[dict[str, Any], ...]:
    """Calls from OpenAI's `tool_calls`, from one {"name", "arguments"}, or a list of them, or the JSON text of any.

    Raises RowRejected where `found` is none of these.
    """
    if not found:
        return ()
    calls = _loaded(found, "tool call not understood")
    return tuple(_call(call) for call in (calls if isinstance(calls, list) else [calls]))


def _call(call: Any) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowRejected("tool call not understood", f"got {call!r:.60}; expected a name and arguments")
    arguments = function.get("arguments", function.get("parameters", {}))
    return {"type": "function", "function": {"name": function["name"], "arguments": _arguments(arguments)}}


def _arguments(found: Any) -> Any:
    """OpenAI writes arguments as the JSON text of an object; templates want the object. Other text stays text."""
    if not isinstance(found, str):
        return {} if found is None else found
    try:
        loaded = json.loads(found)
    except (ValueError, RecursionError):
        return found
    return loaded if isinstance(loaded, dict) else found


def _loaded(found: Any, reason: str) -> Any:
    if not isinstance(found, str):
        return found
    try:
        return json.loads(found)
    except (ValueError, RecursionError):
        raise RowRejected(reason, f"no JSON: {found!r:.60}") from None


def bare_calls(calls: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Only {"name", "arguments"} of each call."""
    return [call["function"] for call in calls]


def to_json(value: Any) -> str:
    """JSON text that keeps all scripts readable."""
    return json.dumps(value, ensure_ascii=False)
