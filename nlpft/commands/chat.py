"""Talk with a model in the terminal; from a pipe, answer each line."""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jinja2
import tyro
from rich.console import Console

from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ConfigError, ModelError, RowRejected
from nlpft.models.pretrained import resolve
from nlpft.rundir import model_folder
from nlpft.types import Message

HELP = "/reset begins anew, /exit or Ctrl-D ends, Ctrl-C stops an answer"


@dataclass(frozen=True)
class Config:
    model: tyro.conf.Positional[str]
    """A hub id, a folder of weights or of an adapter, a run folder (its model/), or smollm2-135m."""
    system: str | None = None
    """The system's message, before the conversation."""
    max_new_tokens: int = 256
    """Longest answer, in tokens."""
    temperature: float = 0.0
    """Of sampling; 0: always the likeliest token."""


@dataclass
class Chat:
    """A conversation with a model."""

    model: Any
    tokenizer: Any
    stops: list[int]  # ids of the tokens that end an answer
    config: Config
    history: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all but the system's message."""
        self.history = [{"role": "system", "content": self.config.system}] if self.config.system else []

    def ask(self, question: str, write: Callable[[str], Any]) -> str:
        """`write` the answer piece by piece, and keep question and answer; Ctrl-C ends the answer where it is.

        Returns what is to be said of it: '' or that it was cut short, and why.
        Raises ModelError, and keeps nothing, where the model cannot be asked this.
        """
        from transformers import TextStreamer  # seconds of import

        asked = [*self.history, {"role": "user", "content": question}]
        inputs, room = self._prompt(asked)
        streamer = TextStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        pieces: list[str] = []

        def show(text: str, stream_end: bool = False) -> None:
            pieces.append(text)
            write(text)

        streamer.on_finalized_text = show  # type: ignore[method-assign]
        remark = ""
        try:
            ids = self.model.generate(**inputs, **self._settings(room), streamer=streamer)
            if ids[0, -1].item() not in self.stops:
                remark = f"cut at {room} tokens; allow more by --max_new_tokens"
        except KeyboardInterrupt:
            streamer.end()  # what it holds back until a word is whole
            remark = "stopped"
        self.history = [*asked, {"role": "assistant", "content": "".join(pieces)}]
        return remark

    def _prompt(self, asked: list[dict[str, str]]) -> tuple[Any, int]:
        """What the model reads, and how many tokens it may answer."""
        try:
            inputs = self.tokenizer.apply_chat_template(
                asked, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
        except jinja2.TemplateError as error:
            raise ModelError(f"the chat template refuses this conversation: {error}") from error
        length, context = inputs["input_ids"].shape[1], self.model.config.max_position_embeddings
        if length >= context:
            raise ModelError(f"the conversation has {length} tokens, the model sees {context}; /reset begins anew")
        return inputs.to(self.model.device), min(self.config.max_new_tokens, context - length)

    def _settings(self, room: int) -> dict[str, Any]:
        """How `generate` chooses tokens, and where it ends."""
        ends = {"max_new_tokens": room, "eos_token_id": self.stops, "pad_token_id": self.stops[0]}
        if self.config.temperature:
            return {**ends, "do_sample": True, "temperature": self.config.temperature}
        return {**ends, "do_sample": False, "temperature": None, "top_p": None, "top_k": None}


def run(config: Config) -> int:
    if config.max_new_tokens < 1:
        raise ConfigError(f"max_new_tokens {config.max_new_tokens}: an answer has at least one token")
    if config.temperature < 0:
        raise ConfigError(f"temperature {config.temperature}: must be 0 or more")
    notes = Console(stderr=True, highlight=False, markup=False)
    with notes.status("loading"):
        chat = load(config)
    if not sys.stdin.isatty():
        for line in questions(sys.stdin):
            say(chat, line, notes)
        return 0
    notes.print(f"{config.model}: {HELP}", style="dim")
    for line in questions(typed()):
        try:
            say(chat, line, notes)
        except ModelError as error:
            notes.print(str(error), style="yellow")
        print()
    return 0


def load(config: Config) -> Chat:
    """Model and tokenizer, on the GPU where there is one. Raises ModelError where they cannot hold a conversation."""
    from nlpft.models.load import device, load_model, load_tokenizer  # seconds of import

    name = model_folder(config.model)
    tokenizer = load_tokenizer(name)
    if not tokenizer.chat_template:
        raise ModelError(
            f"{config.model}: no chat template, so nothing says how a conversation is written to this model; "
            "fine-tune it on conversations first: nlpft convert --template chatml, nlpft train sft"
        )
    model = load_model(name).to(device()).eval()
    return Chat(model, tokenizer, stops(model, tokenizer, name), config)


def stops(model: Any, tokenizer: Any, name: str) -> list[int]:
    """Ids of the tokens that end an answer: the end of turn, by the chat template, and of the sequence.

    They may differ: a base model that was taught ChatML ends its sequences with one token and its turns with another.
    """
    ends = model.generation_config.eos_token_id
    found = [end_of_turn(name), tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])]
    known = list(dict.fromkeys(token for token in found if token is not None))
    if not known:
        raise ModelError(f"{name}: neither tokenizer nor chat template has a token that ends an answer")
    return known


def end_of_turn(name: str) -> int | None:
    """Id of the special token that the chat template puts behind an answer, if it is one that nlpft can take apart."""
    try:
        tokenizer = TextTokenizer(resolve(name, weights=False))
        template = tokenizer.chat_template()
        segments = template.segments([Message("user", "?"), Message("assistant", "!")])
    except (ModelError, RowRejected):
        return None
    ending = next((s.text for s in reversed(segments) if s.train and s.control), "")
    tokens = template.special.findall(ending)
    return tokenizer.special[tokens[-1]] if tokens else None


def typed() -> Iterator[str]:
    """Lines from the keyboard, until Ctrl-D."""
    import readline  # noqa: F401 - gives `input` its arrow keys

    while True:
        try:
            yield input("> ")
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print(f"\n{HELP}")


def questions(lines: Iterable[str]) -> Iterator[str]:
    """`lines` without blank ones, until /exit."""
    for line in lines:
        if line.strip() == "/exit":
            return
        if line.strip():
            yield line.strip()


def say(chat: Chat, line: str, notes: Console) -> None:
    """Answer `line` on stdout, or do what it commands."""
    if line == "/reset":
        chat.reset()
        notes.print("[a new conversation]", style="dim")
        return
    remark = chat.ask(line, lambda text: print(text, end="", flush=True))
    print()
    if remark:
        notes.print(f"[{remark}]", style="dim")
