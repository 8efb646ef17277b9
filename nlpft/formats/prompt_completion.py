"""Prompt and completion: {"prompt": str, "completion": str}, or both as lists of turns (TRL); "system": str is optional.

Only the completion is learnt. Other known pairs: question and answer, input and target, prompt and chosen, and the like.
"""

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
)
from nlpft.formats._turns import Turns, is_turns, openai_names, read_turns, turns_key
from nlpft.formats.alpaca import question
from nlpft.formats.messages import turn
from nlpft.types import Conversation, Message

ANSWERS = ("completion", "response", "output", "answer", "target", *CHOSEN)
PAIRS = {  # names of prompts, and what their answers are called beside them
    "prompt": (*ANSWERS, "text"),
    "question": ANSWERS,
    "query": ANSWERS,
    "input": ANSWERS,
    "content": ("summary",),
}
ROLES = ("user", "assistant")  # of a prompt and an answer that are plain text


def matches(record: dict[str, Any], columns: Columns) -> bool:
    if "instruction" in record and columns.prompt in (None, "instruction"):
        return False  # Alpaca's
    return _pair(record, columns) is not None and turns_key(record, columns) is None


def _pair(record: dict[str, Any], columns: Columns) -> tuple[str, str] | None:
    """The keys of prompt and answer."""
    own = columns.prompt
    for prompt in PAIRS if own is None else (own,):
        if prompt in record:
            known = PAIRS.get(prompt, PAIRS["prompt"])
            answer = find(record, columns.response or columns.chosen, tuple(k for k in known if k != prompt))
            if answer is not None:
                return prompt, answer
    return None


def parse(record: dict[str, Any], columns: Columns, roles: Roles) -> Conversation:
    refuse(record, columns)
    pair = _pair(record, columns)
    if pair is None:
        raise RowRejected("no prompt and completion", keys(record))
    prompt, answer = (_turns(record[key], key, role, columns, roles) for key, role in zip(pair, ROLES, strict=True))
    more = optional_text(record, columns.input, ())
    if more and not is_turns(record[pair[0]]):
        prompt = Turns([Message("user", question(prompt.messages[0].content, more))])
    system = optional_text(record, columns.system, SYSTEM)
    before = [Message("system", system)] if system else []
    whole = bool(answer.messages) and answer.messages[0].role in ("system", "user")  # then it repeats the prompt
    messages = [*before, *([] if whole else map(_context, prompt.messages)), *answer.messages]
    chosen = (USED_CHOSEN,) if pair[1] == find(record, columns.chosen, CHOSEN) else ()
    notes = tuple(dict.fromkeys((*prompt.notes, *answer.notes, *chosen)))
    return Conversation(tuple(messages), (), name(record, columns), "", notes)


def _turns(found: Any, key: str, role: Any, columns: Columns, roles: Roles) -> Turns:
    if is_turns(found) or isinstance(found, dict):
        return read_turns([found] if isinstance(found, dict) else found, columns, openai_names(roles))
    return Turns([Message(role, text(found, key))])


def _context(message: Message) -> Message:
    return message._replace(train=False) if message.role == "assistant" else message


def write(conversation: Conversation) -> dict[str, Any]:
    if conversation.text or conversation.tools:
        no_place("raw text" if conversation.text else "tools")
    *prompt, answer = conversation.messages or (Message("user", ""),)
    if answer.role != "assistant" or not answer.learnt or any(m.learnt for m in prompt):
        no_place("learnt turns other than one answer, the last turn")
    if not any(m.role == "user" for m in prompt):
        no_place("an answer without a question")
    if [m.role for m in prompt] == ["user"] and not answer.tool_calls:
        return named(conversation, {"prompt": prompt[0].content, "completion": answer.content})
    before = [turn(m._replace(train=None)) for m in prompt]  # the place says that it is not learnt
    return named(conversation, {"prompt": before, "completion": [turn(answer)]})
