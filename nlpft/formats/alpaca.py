"""Alpaca: {"instruction": str, "output": str} and optional "input": str, "system": str, "history": [[question, answer], ...]."""

from collections.abc import Iterator
from typing import Any

from nlpft.errors import RowRejected
from nlpft.formats._fields import text
from nlpft.types import Message


def matches(record: dict[str, Any]) -> bool:
    return "instruction" in record and "output" in record


def parse(record: dict[str, Any]) -> tuple[Message, ...]:
    if not matches(record):
        raise RowRejected("no 'instruction' and 'output'", f"keys: {', '.join(map(str, record))}")
    parts = [text(record["instruction"], "instruction"), text(record.get("input") or "", "input")]
    system = [Message("system", text(record["system"], "system"))] if record.get("system") else []
    question = Message("user", "\n\n".join(part for part in parts if part))
    return (*system, *_history(record.get("history")), question, Message("assistant", text(record["output"], "output")))


def _history(pairs: Any) -> Iterator[Message]:
    """Earlier exchanges: a list of [question, answer]."""
    for pair in pairs or []:
        if not isinstance(pair, list) or len(pair) != 2:
            raise RowRejected("history is no list of pairs", f"got {pair!r:.60}")
        yield Message("user", text(pair[0], "history"))
        yield Message("assistant", text(pair[1], "history"))
