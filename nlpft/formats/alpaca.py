"""Alpaca: {"instruction": str, "input": str (may be empty or missing), "output": str, "system": str (optional)}."""

from typing import Any

from nlpft.errors import RowRejected
from nlpft.formats._fields import text
from nlpft.types import Message


def matches(record: dict[str, Any]) -> bool:
    return "instruction" in record and "output" in record


def parse(record: dict[str, Any]) -> tuple[Message, ...]:
    if not matches(record):
        raise RowRejected("no 'instruction' and 'output'", f"keys: {', '.join(map(str, record))}")
    parts = [text(record[key], key) for key in ("instruction", "input") if record.get(key) or key == "instruction"]
    system = [Message("system", text(record["system"], "system"))] if record.get("system") else []
    return (*system, Message("user", "\n\n".join(parts)), Message("assistant", text(record["output"], "output")))
