"""Talk with a model, or with several adapters side by side, in the terminal; from a pipe, answer each line by itself."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.text import Text

from nlpft import plugins
from nlpft.commands._conversation import STOPPED, Conversation, Settings
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ConfigError, ModelError
from nlpft.files import write_text
from nlpft.models.pretrained import resolve
from nlpft.rundir import model_folder
from nlpft.serving._stops import stops

HELP = "/undo, /reset, /save FILE, /tokens, /help; /exit or Ctrl-D ends, Ctrl-C stops an answer"
EXPLAINED = """/undo       forget the last question and its answers
/reset      begin anew
/save FILE  write the conversations so far as JSON, which nlpft convert reads
/tokens     show the tokens of the last prompt and answers
/exit       end; so does Ctrl-D, and Ctrl-C stops an answer"""


@dataclass(frozen=True)
class Config:
    model: tyro.conf.Positional[str]
    """A hub id, a folder of weights or of an adapter, a run folder (its model/), or smollm2-135m."""
    adapters: tuple[str, ...] = ()
    """Adapters or runs on that model that answer beside it, from one base in memory; where the model is an adapter itself,
    its base does not answer."""
    system: str | None = None
    """The system's message, before the conversation."""
    template: str | None = None
    """Chat template in place of the tokenizer's own: the name of a built-in one, or a .jinja file."""
    max_new_tokens: int = 256
    """Longest answer, in tokens."""
    temperature: float = 0.0
    """Of sampling; 0: always the likeliest token."""
    whole: bool = False
    """From a pipe: all of it is one question, not each line one."""
    turns: bool = False
    """From a pipe: the lines are turns of one conversation, not each a conversation of its own."""
    tokens: bool = False
    """Show the tokens of each prompt and answer, with their ids, on standard error."""
    force: bool = False
    """Take adapters that say they were trained on another base, and models that were with another chat template."""


def run(config: Config) -> int:
    if config.max_new_tokens < 1:
        raise ConfigError(f"max_new_tokens {config.max_new_tokens}: an answer has at least one token")
    if config.temperature < 0:
        raise ConfigError(f"temperature {config.temperature}: must be 0 or more")
    if config.whole and config.turns:
        raise ConfigError("--whole is one question, --turns are several; leave one of them out")
    notes = Console(stderr=True, highlight=False, markup=False)
    with notes.status("loading"):
        sides = load(config)
    if not sys.stdin.isatty():
        return whole(sides, config, notes) if config.whole else piped(sides, config, notes)
    notes.print(f"{', '.join(side.label for side in sides)}: {HELP}", style="dim")
    for line in questions(typed()):
        try:
            say(sides, line, notes, config.tokens)
        except (ModelError, ConfigError) as error:
            notes.print(str(error), style="yellow")
        print()
    return 0


def whole(sides: Sequence[Conversation], config: Config, notes: Console) -> int:
    """Answer all that comes through a pipe as one question. Raises ConfigError where there is none."""
    question = sys.stdin.read().strip()
    if not question:
        raise ConfigError("--whole: nothing came through the pipe")
    ask(sides, question, notes, config.tokens)
    return 0


def piped(sides: Sequence[Conversation], config: Config, notes: Console) -> int:
    """Answer each line that comes through a pipe; a line is data and never a command. 1 where one could not be asked.

    Each is a conversation of its own, so that its answer depends on no other line, unless `turns` makes one of all of them.
    """
    failed = 0
    for number, line in enumerate(sys.stdin, 1):
        if not line.strip():
            continue
        if not config.turns:
            reset(sides, "")
        try:
            remarks = ask(sides, line.strip(), notes, config.tokens)
        except ModelError as error:
            notes.print(f"line {number}: {error}", style="yellow")
            failed = 1
            continue
        if STOPPED in remarks:  # Ctrl-C: nobody sits there to end what other lines would begin
            raise KeyboardInterrupt
    return failed


def load(config: Config) -> list[Conversation]:
    """Model and tokenizers, on the GPU where there is one. Raises ModelError where they cannot hold a conversation."""
    from nlpft.models.load import adapter_base, device, load_model  # seconds of import

    name = model_folder(config.model)
    settings = Settings(config.system, config.max_new_tokens, config.temperature)
    if not config.adapters:
        tokenizer = tokenizer_of(name, config)
        model: Any = load_model(name).to(device()).eval()
        return [Conversation(config.model, model, tokenizer, stops(model, tokenizer, name), settings)]
    from nlpft.evaluation import subjects

    base = adapter_base(resolve(name, weights=False))
    named = subjects.adapters([*([config.model] if base else []), *config.adapters], base or name, config.force)
    folders = [(subjects.BASE, name)] if not base else []
    folders += [(subject.label, str(subject.folder)) for subject in named]
    tokenizers = [tokenizer_of(folder, config) for _, folder in folders]  # before the weights, which take longer
    model = together(load_model(base or name), named).to(device()).eval()
    return [
        Conversation(label, model, tokenizer, stops(model, tokenizer, folder), settings, answering(model, label))
        for (label, folder), tokenizer in zip(folders, tokenizers, strict=True)
    ]


def tokenizer_of(name: str, config: Config) -> Any:
    """A tokenizer with a chat template. Raises ModelError, with the remedy, where there is none.

    Raises ConfigError where the model in that folder was trained with another one.
    """
    from nlpft.evaluation import subjects
    from nlpft.models.load import load_tokenizer, tokenizer_folder  # seconds of import

    template = None
    if config.template:
        template = TextTokenizer(tokenizer_folder(name)).chat_template(config.template).source
    tokenizer = load_tokenizer(name, template)
    if not tokenizer.chat_template:
        raise ModelError(
            f"{name}: no chat template, so nothing says how a conversation is written to this model. Try it with one of "
            f"nlpft's by --template ({', '.join(plugins.names('templates'))}), or fine-tune it on conversations first: "
            "nlpft convert --template chatml, nlpft train sft"
        )
    subjects.check_template(resolve(name, weights=False), tokenizer.chat_template, config.force)
    return tokenizer


def together(base: Any, named: Sequence[Any]) -> Any:
    """`base` with all adapters on it, each under a name of its own. Raises ModelError where one does not fit."""
    from peft import PeftModel  # 5 s of import that a plain model does not need

    model = base
    for subject in named:
        try:
            if isinstance(model, PeftModel):
                model.load_adapter(str(subject.folder), adapter_name(subject.label))
            else:
                model = PeftModel.from_pretrained(model, str(subject.folder), adapter_name(subject.label))
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"{subject.folder}: cannot be put on its base: {str(error)[:300]}") from error
    return model


def adapter_name(label: str) -> str:
    """What PEFT calls the adapter: a part of its modules' names, which dots would cut."""
    return label.replace(".", "_")


def answering(model: Any, label: str) -> Callable[[], Any]:
    """A context in which `model` answers with the adapter called `label`, or as its base."""
    from nlpft.evaluation.subjects import BASE

    @contextmanager
    def active() -> Iterator[None]:
        model.set_adapter(adapter_name(label))
        yield

    return model.disable_adapter if label == BASE else active


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


def say(sides: Sequence[Conversation], line: str, notes: Console, tokens: bool = False) -> None:
    """Answer `line`, or do what it commands."""
    word, _, rest = line.partition(" ")
    if word in COMMANDS:
        notes.print(COMMANDS[word](sides, rest.strip()), style="dim")
    else:
        ask(sides, line, notes, tokens)


def ask(sides: Sequence[Conversation], question: str, notes: Console, tokens: bool) -> list[str]:
    """Each side's answer on stdout; what is said of it. Raises ModelError, and keeps nothing, where one cannot be asked this."""
    prompts = [side.prompt(question) for side in sides]
    remarks = []
    for side, prompt in zip(sides, prompts, strict=True):
        if len(sides) > 1:
            print(f"[{side.label}]")
        remark(notes, prompt.remark)
        remarks.append(side.answer(prompt, lambda text: print(text, end="", flush=True)))
        print()
        remark(notes, remarks[-1])
    if tokens:
        notes.print(shown(sides, ""))
    return remarks


def remark(notes: Console, text: str) -> None:
    if text:
        notes.print(f"[{text}]", style="dim")


def reset(sides: Sequence[Conversation], rest: str) -> str:
    for side in sides:
        side.reset()
    return "[a new conversation]"


def undo(sides: Sequence[Conversation], rest: str) -> str:
    forgotten = {side.label: side.undo() for side in sides}
    return "[forgotten]" if any(forgotten.values()) else "[there is nothing to forget]"


def save(sides: Sequence[Conversation], rest: str) -> str:
    """Write the conversations in the format `messages`. Raises ConfigError where that cannot be."""
    if not rest:
        raise ConfigError("/save: needs a file's name")
    path = Path(rest).expanduser()
    if path.exists():
        raise ConfigError(f"/save {rest}: already there; choose another name")
    rows = [{"messages": side.history, "model": side.label} for side in sides]
    try:
        write_text(path, json.dumps(rows, ensure_ascii=False, indent=2) + "\n")
    except OSError as error:
        raise ConfigError(f"/save {rest}: cannot be written: {error.strerror}") from error
    return f"[{path}: {sum(len(side.history) for side in sides)} messages]"


def shown(sides: Sequence[Conversation], rest: str) -> Text:
    """The tokens of the last prompt and answer of each side: text and id, one behind the other."""
    out = Text()
    for side in sides:
        for name, tokens in side.tokens():
            out.append(f"[{side.label}] {name}, {len(tokens)} tokens\n", "bold")
            for number, (token, text) in enumerate(tokens):
                out.append(json.dumps(text, ensure_ascii=False)[1:-1], "reverse" if number % 2 else "")
                out.append(f" {token}  ", "dim")
            out.append("\n")
    return out or Text("[nothing has been said yet]")


COMMANDS: dict[str, Callable[[Sequence[Conversation], str], Any]] = {
    "/reset": reset,
    "/undo": undo,
    "/save": save,
    "/tokens": shown,
    "/help": lambda sides, rest: EXPLAINED,
}
