"""The columns and roles of corpus rows: the user's names for them, the known ones, and how a value is taken out of a row."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from nlpft.errors import RowRejected
from nlpft.types import Conversation


@dataclass(frozen=True)
class Columns:
    """The user's names of keys, in place of the known ones. A name that no row has (`none`) switches a column off."""

    messages: str | None = None
    """Key of the list of turns (known: conversations, messages, conversation, dialog, dialogue)."""
    role: str | None = None
    """Key of who speaks, in a turn (known: from, role, speaker, author)."""
    content: str | None = None
    """Key of what is said, in a turn (known: value, content, text)."""
    system: str | None = None
    """Key of the system prompt (known: system, system_prompt, system_message)."""
    tools: str | None = None
    """Key of the tools' JSON schemas, a list or its JSON text (known: tools, functions)."""
    prompt: str | None = None
    """Key of the question (known: instruction, prompt, question, query, input, content beside summary)."""
    input: str | None = None
    """Key of what follows the instruction (known: input, context, where there is an instruction)."""
    response: str | None = None
    """Key of the answer (known: output, completion, response, answer, target, summary, text beside prompt)."""
    history: str | None = None
    """Key of the earlier [question, answer] pairs (known: history)."""
    chosen: str | None = None
    """Key of the better of two answers, which is used (known: chosen)."""
    rejected: str | None = None
    """Key of the worse of two answers, which is left out (known: rejected)."""
    label: str | None = None
    """Key of whether the answer is desired; rows where it is false are rejected (known: label, where it is true or false)."""
    text: str | None = None
    """Key of raw text (known: text, raw_content, content, completion)."""
    id: str | None = None
    """Key of the row's name (known: id, conversation_id, uuid)."""
    train: str | None = None
    """Key of whether a turn is learnt, 0 or 1 (known: weight, loss_weight, train), or of what a row lets learn (known: train)."""


@dataclass(frozen=True)
class Roles:
    """The user's names of roles, beside the known ones."""

    system: tuple[str, ...] = ()
    """More names of the system's turns."""
    user: tuple[str, ...] = ()
    """More names of the user's turns."""
    assistant: tuple[str, ...] = ()
    """More names of the assistant's turns."""
    tool: tuple[str, ...] = ()
    """More names of the turns that hold what a tool gave back."""
    function_call: tuple[str, ...] = ()
    """More names of the assistant's turns whose text is the JSON of a call."""


MESSAGES = ("conversations", "messages", "conversation", "dialog", "dialogue")
ROLE = ("from", "role", "speaker", "author")
CONTENT = ("value", "content", "text")
SYSTEM = ("system", "system_prompt", "system_message")
TOOLS = ("tools", "functions")
CHOSEN = ("chosen",)
REJECTED = ("rejected",)
LABEL = ("label",)
TRAIN = ("weight", "loss_weight", "train")
ID = ("id", "conversation_id", "uuid")
MEDIA = frozenset({"images", "image", "videos", "video", "audios", "audio"})

USED_CHOSEN = "chosen answer used"
NO_PLACE = "format cannot hold it"


def find(record: Mapping[str, Any], own: str | None, known: tuple[str, ...]) -> str | None:
    """The key of a column in this row: the user's `own` name or else the first known one, rather one that is not null."""
    if own is not None:
        return own if own in record else None
    empty = None
    for name in known:
        if name in record:
            if record[name] is not None:
                return name
            empty = empty or name
    return empty


def value(record: Mapping[str, Any], own: str | None, known: tuple[str, ...]) -> Any:
    """What the column holds; None where the row has no such column."""
    key = find(record, own, known)
    return None if key is None else record[key]


def text(found: Any, key: str) -> str:
    """`found` if it is text; raises RowRejected naming `key` otherwise."""
    if not isinstance(found, str):
        raise RowRejected("not text", f"{key} is {'null' if found is None else type(found).__name__}")
    return found


def optional_text(record: Mapping[str, Any], own: str | None, known: tuple[str, ...]) -> str:
    """The text of a column that may be missing or null; '' then. Raises RowRejected where it holds anything else."""
    key = find(record, own, known)
    return "" if key is None or record[key] is None else text(record[key], key)


def name(record: Mapping[str, Any], columns: Columns) -> str:
    """The row's own name for itself; '' where it has none."""
    found = value(record, columns.id, ID)
    return str(found) if isinstance(found, (str, int)) else ""


def refuse(record: Mapping[str, Any], columns: Columns) -> None:
    """Raise RowRejected for rows that no format of ours can teach: with images, audio or video, or an undesired answer."""
    if not MEDIA.isdisjoint(record):
        for key in MEDIA & record.keys():
            if record[key]:
                raise RowRejected("images, audio or video", f"the key {key!r}")
    label = value(record, columns.label, LABEL)
    if label is False or (
        label == 0 and columns.label is not None
    ):  # a number may be a class, if nobody says otherwise
        raise RowRejected("undesired answer", f"{columns.label or 'label'} is {label}")


def keys(record: Mapping[str, Any]) -> str:
    """The first keys of a row, for the detail of a rejection."""
    shown = [repr(key) for key in itertools.islice(record, 12)]
    return f"its keys are {', '.join(shown) or 'none'}{', ...' if len(record) > len(shown) else ''}"


def no_place(what: str) -> NoReturn:
    """Raise RowRejected: the format to be written has no place for `what`."""
    raise RowRejected(NO_PLACE, what)


def named(conversation: Conversation, row: dict[str, Any]) -> dict[str, Any]:
    """The row to be written, with the conversation's id before all else where it has one."""
    return {"id": conversation.id, **row} if conversation.id else row
