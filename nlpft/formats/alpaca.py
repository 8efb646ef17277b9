"""Alpaca: {"instruction": str, "output": str} and optional "input": str, "system": str, "history": [[question, answer], ...]."""

from collections.abc import Iterator
from typing import Any

from nlpft.errors import RowRejected
from nlpft.formats._fields import (
    CHOSEN,
    SYSTEM,
    USED_CHOSEN,
    Columns,
    Roles,
    find,
    keys,
    name,
    named,
    no_place,
    optional_text,
    refuse,
    text,
    value,
)
from nlpft.formats._turns import turns_key
from nlpft.types import Conversation, Message

PROMPT = ("instruction",)
INPUT = ("input", "context")
RESPONSE = ("output", "response", "answer", "completion", "target")
HISTORY = ("history",)


def matches(record: dict[str, Any], columns: Columns) -> bool:
    if "instruction" not in record or columns.prompt not in (None, "instruction"):
        return False
    return _answer_key(record, columns) is not None and turns_key(record, columns) is None


def parse(record: dict[str, Any], columns: Columns, roles: Roles) -> Conversation:
    refuse(record, columns)
    prompt, answer = find(record, columns.prompt, PROMPT), _answer_key(record, columns)
    if prompt is None or answer is None:
        raise RowRejected("no instruction and output", keys(record))
    messages = (
        *_system(record, columns),
        *_history(value(record, columns.history, HISTORY)),
        Message("user", question(text(record[prompt], prompt), optional_text(record, columns.input, INPUT))),
        Message("assistant", text(record[answer], answer)),
    )
    notes = (USED_CHOSEN,) if answer == find(record, columns.chosen, CHOSEN) else ()
    return Conversation(messages, (), name(record, columns), "", notes)


def question(instruction: str, more: str) -> str:
    """The instruction and what follows it, as one turn."""
    return "\n\n".join(part for part in (instruction, more) if part)


def _answer_key(record: dict[str, Any], columns: Columns) -> str | None:
    return find(record, columns.response, RESPONSE) or find(record, columns.chosen, CHOSEN)


def _system(record: dict[str, Any], columns: Columns) -> list[Message]:
    system = optional_text(record, columns.system, SYSTEM)
    return [Message("system", system)] if system else []


def _history(pairs: Any) -> Iterator[Message]:
    """Earlier exchanges: a list of [question, answer]."""
    if pairs is not None and not isinstance(pairs, list):
        raise RowRejected("history is no list of pairs", f"got {pairs!r:.60}")
    for pair in pairs or []:
        if not isinstance(pair, list) or len(pair) != 2:
            raise RowRejected("history is no list of pairs", f"got {pair!r:.60}")
        yield Message("user", text(pair[0], "history"))
        yield Message("assistant", text(pair[1], "history"))


def write(conversation: Conversation) -> dict[str, Any]:
    system, pairs = exchanges(conversation)
    question, answer = pairs[-1]
    row: dict[str, Any] = {"instruction": question, "input": "", "output": answer}
    if system:
        row["system"] = system
    if pairs[:-1]:
        row["history"] = [list(pair) for pair in pairs[:-1]]
    return named(conversation, row)


def exchanges(conversation: Conversation) -> tuple[str, list[tuple[str, str]]]:
    """The system prompt and pairs of question and answer. Raises RowRejected where the conversation is not just that."""
    if conversation.text:
        no_place("raw text")
    if conversation.tools or any(m.tool_calls or m.role == "tool" for m in conversation.messages):
        no_place("tools")
    if any(m.learnt != (m.role == "assistant") for m in conversation.messages):
        no_place("which turns are learnt")
    system = [m.content for m in conversation.messages[:1] if m.role == "system" and m.content]
    turns = conversation.messages[len(system) :]
    if not turns or [m.role for m in turns] != ["user", "assistant"] * (len(turns) // 2):
        no_place("turns other than questions, each with its answer, after one system prompt")
    texts = [m.content for m in turns]
    return "".join(system), list(zip(texts[::2], texts[1::2], strict=True))
