"""Raw text for continued pretraining: {"text": str}, learnt as a whole without a chat template."""

from typing import Any

from nlpft.errors import RowRejected
from nlpft.formats import alpaca, messages, prompt_completion, sharegpt
from nlpft.formats._fields import Columns, Roles, find, keys, name, named, no_place, refuse, text
from nlpft.types import Conversation

TEXT = ("text", "raw_content", "content", "completion")
OTHERS = {*alpaca.PROMPT, *prompt_completion.PAIRS} - set(TEXT)


def matches(record: dict[str, Any], columns: Columns) -> bool:
    key = find(record, columns.text, TEXT)
    if key is None or not isinstance(record[key], str):
        return False
    if columns.text is None and not OTHERS.isdisjoint(record):
        return False  # what is a question, without a known answer beside it, is not for us to guess
    return not any(other.matches(record, columns) for other in (sharegpt, messages, alpaca, prompt_completion))


def parse(record: dict[str, Any], columns: Columns, roles: Roles) -> Conversation:
    refuse(record, columns)
    key = find(record, columns.text, TEXT)
    if key is None:
        raise RowRejected("no text", keys(record))
    found = text(record[key], key)
    if not found or found.isspace():
        raise RowRejected("blank text")
    return Conversation((), (), name(record, columns), "", (), found)


def write(conversation: Conversation) -> dict[str, Any]:
    if not conversation.text:
        no_place("turns")
    return named(conversation, {"text": conversation.text})
