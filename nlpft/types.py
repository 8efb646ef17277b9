"""The few data types that every part of nlpft speaks. Plain frozen data: nothing here imports torch or transformers."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Role = Literal["system", "user", "assistant", "tool"]

IGNORE = -100  # label of a position that no loss counts; torch's own default for `ignore_index`


class Record(NamedTuple):
    """One raw row of a corpus file, before any format has looked at it."""

    data: Any  # what the JSON text held: a dict, if the row is any good
    source: str  # 'chats.json:17'; rows of an array and lines of a JSONL file count from 1


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str
    train: bool | None = None  # None: the role decides (assistant yes, the others no)

    @property
    def learnt(self) -> bool:
        """Whether the model is trained to write this turn."""
        return self.role == "assistant" if self.train is None else self.train

    def as_dict(self) -> dict[str, str]:
        """As chat templates and results files know it."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class Conversation:
    """What every corpus format is turned into, and all that a chat template sees."""

    messages: tuple[Message, ...]
    source: str = ""  # as in Record


class Segment(NamedTuple):
    """A run of rendered text that is learnt as a whole or not at all."""

    text: str
    train: bool
    control: bool  # written by the template: only such text may hold special tokens
