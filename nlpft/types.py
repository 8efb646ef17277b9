"""The few data types that every part of nlpft speaks. Plain frozen data: nothing here imports torch or transformers."""

from typing import Any, Literal, NamedTuple

Role = Literal["system", "user", "assistant", "tool"]

IGNORE = -100  # label of a position that no loss counts; torch's own default for `ignore_index`


class Record(NamedTuple):
    """One raw row of a corpus file, before any format has looked at it."""

    data: Any  # what the JSON text held: a dict, if the row is any good
    source: str  # 'chats.json:17'; rows of an array and lines of a JSONL file count from 1
    offset: int = 0  # bytes from the beginning of the (uncompressed) file


class Message(NamedTuple):
    """One turn of a conversation."""

    role: Role
    content: str
    train: bool | None = None  # None: the role decides (assistant yes, the others no)
    tool_calls: tuple[
        dict[str, Any], ...
    ] = ()  # as OpenAI writes them: {"type": "function", "function": {name, arguments}}

    @property
    def learnt(self) -> bool:
        """Whether the model is trained to write this turn."""
        return self.role == "assistant" if self.train is None else self.train

    def as_dict(self) -> dict[str, Any]:
        """As chat templates and results files know it."""
        plain: dict[str, Any] = {"role": self.role, "content": self.content}
        return {**plain, "tool_calls": list(self.tool_calls)} if self.tool_calls else plain


class Conversation(NamedTuple):
    """What every corpus format is turned into, and all that a chat template sees."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()  # JSON schemas of the functions that the assistant may call
    id: str = ""  # the row's own name for itself, if it has one
    source: str = ""  # as in Record
    notes: tuple[str, ...] = ()  # what was repaired or chosen on the way, as fixed phrases: they are counted
    text: str = ""  # raw text that is learnt as a whole, without a template; then there are no messages


class Task(NamedTuple):
    """What a head answers: of a text (transformers' `problem_type`), or of each word."""

    kind: Literal["single_label_classification", "multi_label_classification", "regression", "tagging"]
    labels: tuple[str, ...] = ()  # names in the order of their ids; of a regression none
    counts: tuple[int, ...] = ()  # how often each is in the training data

    @property
    def outputs(self) -> int:
        """Numbers that the head gives for one target."""
        return len(self.labels) or 1


class Layout(NamedTuple):
    """How rows become a batch that a model reads exactly."""

    packed: bool  # one behind the other, [1, time]; else padded on the right, [rows, longest]
    reads: Literal["first", "last", "labelled"]  # tokens whose features go to the head
    first_position: int = 0  # position_ids of a row's first token
    pad_id: int = 0  # never "last", and what fills up
    token_types: bool = False  # whether the model is told which of two texts a token belongs to


class Segment(NamedTuple):
    """A run of rendered text that is learnt as a whole or not at all."""

    text: str
    train: bool
    control: bool  # written by the template: only such text may hold special tokens
    role: str = ""  # whose text it is; '' for the template's own
