"""What the jobs of the peers share: their arguments, what is known of the model's chat format, and their answer."""

import argparse
import json
import os
from pathlib import Path
from typing import Any, NamedTuple


class Job(NamedTuple):
    """One preparation: chats (JSONL of `messages`) -> a tokenized, masked, packed dataset below `out`."""

    file: Path
    model: Path
    out: Path
    workers: int
    max_length: int  # tokens in a pack


def parse(doc: str | None) -> Job:
    """The job that the command line asks for. Call it before importing a suite: it sets where `datasets` keeps its cache."""
    task, more = parse_known(doc)
    if more:
        raise SystemExit(f"unknown arguments: {' '.join(more)}")
    return task


def parse_known(doc: str | None) -> tuple[Job, list[str]]:
    """As `parse`, and the arguments that a job does not know."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--max_length", type=int, default=4096)
    given, more = parser.parse_known_args()
    out = given.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    os.environ |= {"HF_DATASETS_CACHE": str(out / "cache"), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the suites fork their own workers
    return Job(given.file.absolute(), given.model.absolute(), out, given.workers, given.max_length), more


class Chat(NamedTuple):
    """A chat format in which every turn is header, text, end: Llama 3's or ChatML."""

    bos: bool  # whether the token that begins a sequence stands before the first turn
    header: str  # with {role} in place of the role
    end: str  # closes a turn and is learnt
    after: str  # between turns
    system: str  # of conversations that bring none; '' for none

    @classmethod
    def of(cls, model: Path) -> "Chat":
        """The format of the tokenizer in folder `model`. Raises SystemExit where it is neither."""
        settings = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))
        tokens = {t["content"] for t in json.loads((model / "tokenizer.json").read_bytes())["added_tokens"]}
        if "<|start_header_id|>" in tokens:
            return cls(True, "<|start_header_id|>{role}<|end_header_id|>\n\n", "<|eot_id|>", "", "")
        if "<|im_start|>" in tokens:
            return cls(False, "<|im_start|>{role}\n", "<|im_end|>", "\n", _default_system(model, settings))
        raise SystemExit(f"{model}: the peers' jobs know ChatML and Llama 3's format, and this tokenizer has neither")

    def turn(self, role: str, text: str) -> str:
        return self.header.replace("{role}", role) + text + self.end + self.after

    def choose(self, names: dict[str, str]) -> str:
        """A suite's own name of the format, by the special token that its header begins with."""
        return next(name for token, name in names.items() if self.header.startswith(token))


def _default_system(model: Path, settings: dict[str, Any]) -> str:
    """The system text that a ChatML template adds to a conversation without one."""
    import jinja2

    file = model / "chat_template.jinja"
    source = file.read_text(encoding="utf-8") if file.is_file() else settings["chat_template"]
    rendered = jinja2.Template(source).render(messages=[{"role": "user", "content": "?"}])
    before = rendered.partition("<|im_start|>user")[0]
    return before.removeprefix("<|im_start|>system\n").removesuffix("<|im_end|>\n")


def done(dataset: Any) -> None:
    """Tell the benchmark where the Arrow files of a `datasets.Dataset` lie: it counts their tokens afterwards."""
    if dataset._indices is not None:
        raise SystemExit("the dataset is a selection of its files' rows: its tokens cannot be counted from them")
    print(json.dumps({"files": [entry["filename"] for entry in dataset.cache_files]}))
