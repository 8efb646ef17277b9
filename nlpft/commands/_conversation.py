"""A conversation with a model: its history, what the model reads, and the answer as it is written."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jinja2

from nlpft.errors import ModelError

STOPPED = "stopped"
ROOM = (
    4  # an answer has this part of what the model sees, unless it may not be that long: rather than that, old turns go
)


class Settings(NamedTuple):
    """How answers are chosen."""

    system: str | None = None
    max_new_tokens: int = 256
    temperature: float = 0.0


class Prompt(NamedTuple):
    """What a model is about to read, and how many tokens it may answer."""

    turns: list[dict[str, str]]  # of the whole conversation
    inputs: Any  # the tokens of those that are read
    room: int
    remark: str = ""  # what is to be said of it


@dataclass
class Conversation:
    """One side of a chat: a model, or one adapter of several on it, with all that has been said to it."""

    label: str
    model: Any
    tokenizer: Any
    stops: list[int]  # ids of the tokens that end an answer
    settings: Settings
    active: Callable[[], AbstractContextManager] = nullcontext  # while it lasts the model answers as this side
    history: list[dict[str, str]] = field(default_factory=list)
    ids: tuple[list[int], list[int]] = ([], [])  # tokens of the last prompt and of its answer
    unread: int = 0  # turns, from the oldest on, for which the model's context has no room any more

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all but the system's message."""
        system = self.settings.system
        self.history, self.ids = [{"role": "system", "content": system}] if system else [], ([], [])
        self.unread = 0

    def undo(self) -> bool:
        """Forget the last question and its answer; whether there was one."""
        there = bool(self.history) and self.history[-1]["role"] == "assistant"
        if there:
            self.history, self.ids, self.unread = self.history[:-2], ([], []), 0
        return there

    def prompt(self, question: str) -> Prompt:
        """What the model reads for the next answer: as much of the conversation as it sees, the oldest turns go first.

        Raises ModelError where it cannot be asked this; nothing is kept.
        """
        from nlpft.models.load import context  # seconds of import

        turns = [*self.history, {"role": "user", "content": question}]
        most, limit = self.settings.max_new_tokens, context(self.model)
        system = bool(self.settings.system)
        unread, inputs, length = self.unread, *self._read(turns, system, self.unread)
        if limit is None:
            return Prompt(turns, inputs, most)
        while length + min(most, limit // ROOM) > limit and system + unread < len(turns) - 1:
            unread += 2
            inputs, length = self._read(turns, system, unread)
        if length >= limit:
            raise ModelError(f"this question alone has {length} tokens, and the model sees {limit}; ask a shorter one")
        remark = f"the first {unread} turns are not read any more: the model sees {limit} tokens"
        remark, self.unread = remark if unread > self.unread else "", unread
        return Prompt(turns, inputs, min(most, limit - length), remark)

    def _read(self, turns: list[dict[str, str]], system: bool, unread: int) -> tuple[Any, int]:
        """Tokens of `turns` without the first `unread` behind the system's, and how many they are."""
        read = [*turns[:system], *turns[system + unread :]]
        try:
            inputs = self.tokenizer.apply_chat_template(
                read, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
        except jinja2.TemplateError as error:
            raise ModelError(f"the chat template refuses this conversation: {error}") from error
        return inputs.to(self.model.device), inputs["input_ids"].shape[1]

    def answer(self, prompt: Prompt, write: Callable[[str], Any]) -> str:
        """`write` the answer piece by piece, and keep question and answer; Ctrl-C ends the answer where it is.

        Returns what is to be said of it: '' or that it was cut short, and why.
        """
        from transformers import TextStreamer  # seconds of import

        streamer = TextStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        pieces: list[str] = []

        def show(text: str, stream_end: bool = False) -> None:
            pieces.append(text)
            write(text)

        streamer.on_finalized_text = show  # type: ignore[method-assign]
        read = prompt.inputs["input_ids"][0].tolist()
        remark, written = "", None
        try:
            with self.active():
                ids = self.model.generate(**prompt.inputs, **self._ways(prompt.room), streamer=streamer)
            written = ids[0, len(read) :].tolist()
            if written[-1] not in self.stops:
                remark = f"cut at {prompt.room} tokens; allow more by --max_new_tokens"
        except KeyboardInterrupt:
            streamer.end()  # what it holds back until a word is whole
            remark = STOPPED
        text = "".join(pieces)
        if written is None:
            written = self.tokenizer.encode(text, add_special_tokens=False)
        self.history, self.ids = [*prompt.turns, {"role": "assistant", "content": text}], (read, written)
        return remark

    def _ways(self, room: int) -> dict[str, Any]:
        """How `generate` chooses tokens, and where it ends."""
        ends = {"max_new_tokens": room, "eos_token_id": self.stops, "pad_token_id": self.stops[0]}
        if self.settings.temperature:
            return {**ends, "do_sample": True, "temperature": self.settings.temperature}
        return {**ends, "do_sample": False, "temperature": None, "top_p": None, "top_k": None}

    def tokens(self) -> list[tuple[str, list[tuple[int, str]]]]:
        """The last prompt and answer as (what it is, [(id, text of the token)])."""
        names = ("prompt", "answer")
        return [
            (name, [(i, self.tokenizer.decode([i])) for i in ids])
            for name, ids in zip(names, self.ids, strict=True)
            if ids
        ]
