"""A finished model on its way to where it is served: whole weights, or an adapter for a program that knows its base."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from nlpft.errors import ModelError
from nlpft.models.load import adapter_base, load_tokenizer
from nlpft.models.pretrained import canonical_name, resolve
from nlpft.serving import _retyped
from nlpft.serving._stops import stops

WANTED = (".json", ".safetensors", ".bin", ".jinja", ".model", ".txt")  # of a model's folder


class Settings(NamedTuple):
    """How it is to be written; each target uses what concerns it."""

    adapter: bool = False  # the adapter as it is, for a program that has its base
    dtype: str = "auto"  # of whole weights; auto: as they are, or as the base's
    converter: Path | None = None  # llama.cpp's convert_hf_to_gguf.py
    outtype: str = "auto"  # of a GGUF file, in that program's words


class Source(NamedTuple):
    """What is exported."""

    name: str  # as the user gave it, or the model in that run
    folder: Path
    base: str | None  # of an adapter

    @property
    def label(self) -> str:
        """What to call it where it is served."""
        folder = Path(self.name).expanduser().absolute()
        return folder.parent.name if folder.name == "model" else folder.name


def source(name: str) -> Source:
    """The model called `name`. Raises ModelError where it is not there."""
    folder = resolve(name)
    return Source(name, folder, adapter_base(folder))


def write_whole(source: Source, output: Path, settings: Settings) -> list[str]:
    """Write whole weights, tokenizer with its chat template, and where generation ends, to `output`; what is to be said."""
    said = []
    if source.base is None:
        written: set[str] = set()
        if settings.dtype != "auto":
            written = _retyped.write(source.folder, output, settings.dtype)
            said = [f"weights in {settings.dtype}"]
        for file in sorted(source.folder.iterdir()):
            if file.suffix in WANTED and file.name not in written:
                shutil.copy(file, output)
    else:
        from nlpft.models import merge  # seconds of import

        done = merge.merge(source.name, output, settings.dtype)
        allowed = merge.TOLERANCES[done.dtype]
        said = [
            f"merged into {done.base}, {done.dtype}: logits {done.off:.1e} off the adapter's ({allowed:.0e} allowed)"
        ]
    write_endings(source, output)
    return said


def write_adapter(source: Source, output: Path) -> None:
    """Write the adapter as it is, with its tokenizer. Raises ModelError where there is none."""
    if source.base is None:
        raise ModelError(f"{source.name}: holds no adapter but whole weights; leave --adapter out")
    for file in sorted(source.folder.iterdir()):
        if file.suffix in WANTED:
            shutil.copy(file, output)
    load_tokenizer(source.name).save_pretrained(output)  # its base's, where it has none of its own


def write_endings(source: Source, output: Path) -> list[int]:
    """Say in generation_config.json that a turn's end ends an answer too; ids of the tokens that do.

    A base model that was taught to chat names only the end of the sequence there, and its answers would run on when served.
    """
    path = output / "generation_config.json"
    settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    own = settings.get("eos_token_id")
    known = own if isinstance(own, list) else [own] * (own is not None)
    ends = list(dict.fromkeys([*stops(None, load_tokenizer(source.name), source.name), *known]))
    settings |= {"eos_token_id": ends if len(ends) > 1 else ends[0]}
    settings.setdefault("pad_token_id", ends[0])
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return ends


def base_name(source: Source) -> str:
    """The base as another program can find it: a hub id or an absolute path."""
    assert source.base is not None
    return canonical_name(source.base)


def chat_template(source: Source) -> str:
    """The chat template that comes with the model. Raises ModelError where there is none."""
    found = load_tokenizer(source.name).chat_template
    if not found:
        raise ModelError(
            f"{source.name}: no chat template, so nothing says how a conversation is written to this model; fine-tune it on "
            "conversations (nlpft convert --template chatml), or save one as chat_template.jinja in its folder"
        )
    return found
