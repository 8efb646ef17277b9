"""What is evaluated: one model, or one base and several adapters on it; and whether each is what it seems to be."""

import difflib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

import nlpft
from nlpft.errors import ConfigError, ModelError
from nlpft.models.load import adapter_base
from nlpft.models.pretrained import canonical_name, resolve
from nlpft.rundir import model_folder
from nlpft.templates._chat import ChatTemplate

BASE = "base"
SHOWN = 12  # lines of the difference between two templates


class Subject(NamedTuple):
    """One thing that is evaluated."""

    label: str
    name: str  # as the user gave it
    folder: Path


def adapters(names: Sequence[str], base: str, force: bool = False) -> list[Subject]:
    """The adapters called `names`, as labelled in tables. Reads no weights.

    Raises ModelError where one is not there, cannot be read, or was trained on another model than `base` (unless `force`), and
    ConfigError for what is no adapter.
    """
    found: list[Subject] = []
    for name in names:
        folder = resolve(model_folder(name))
        own_base = adapter_base(folder)
        if own_base is None:
            raise ConfigError(
                f"--adapters {name}: holds no adapter but a whole model; evaluate it by a call of its own"
            )
        if not force and not _same(own_base, base):
            raise ModelError(f"{folder}: was trained on {own_base}, not on {base}; evaluate it on that, or add --force")
        check_readable(folder)
        found.append(Subject(_label(name, [s.label for s in found]), name, folder))
    return found


def _same(one: str, other: str) -> bool:
    """Whether two names mean one model."""
    if canonical_name(one) == canonical_name(other):
        return True
    try:
        return resolve(one, weights=False).resolve() == resolve(other, weights=False).resolve()
    except ModelError:
        return False


def _label(name: str, taken: Sequence[str]) -> str:
    path = Path(name).expanduser().absolute()
    label = path.parent.name if path.name == "model" else path.name
    number = sum(old == label or old.startswith(f"{label}-") for old in (BASE, *taken))
    return f"{label}-{number + 1}" if number else label


def check_readable(folder: Path) -> None:
    """Raise ModelError where a file of weights in `folder` is broken. Reads their headers only."""
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "pt") as weights:
                weights.keys()
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file}: broken ({error}); was it copied or downloaded whole?") from error


def put_on(base: Any, subject: Subject) -> Any:
    """`base` with an adapter on it; `.unload()` gives the base back. Raises ModelError where the adapter does not fit."""
    from peft import PeftModel  # 5 s of import that a plain model does not need

    try:
        return PeftModel.from_pretrained(base, str(subject.folder)).eval()
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        text = str(error).partition("\n")
        raise ModelError(f"{subject.folder}: cannot be put on its base: {text[0]} {text[2][:300]}".strip()) from error


@torch.inference_mode()
def inactive(model: Any) -> bool:
    """Whether the adapter of `model` changes no logit of a probe."""
    size = model.config.get_text_config().vocab_size
    probe = torch.arange(3, 3 + 32 * 7, 7, device=next(model.parameters()).device)[None] % size
    with_adapter = model(input_ids=probe, use_cache=False).logits
    with model.disable_adapter():
        return bool(torch.equal(with_adapter, model(input_ids=probe, use_cache=False).logits))


def check_template(folder: Path, used: str, force: bool) -> None:
    """Raise ConfigError where the adapter in `folder` was trained with another chat template than `used` (its text)."""
    facts = folder / "nlpft.json"
    trained = json.loads(facts.read_text(encoding="utf-8")).get("template_hash") if facts.is_file() else None
    if force or not trained or trained == ChatTemplate(used, []).hash:
        return
    raise ConfigError(
        f"{folder}: was trained with another chat template (hash {trained}) than would be used here "
        f"(hash {ChatTemplate(used, []).hash}):\n{_difference(folder, trained, used)}\n"
        "give the one it was trained with by --template (a .jinja file), or add --force"
    )


def _difference(folder: Path, trained: str, used: str) -> str:
    file = folder / "chat_template.jinja"
    own = file.read_text(encoding="utf-8") if file.is_file() else ""
    if ChatTemplate(own, []).hash != trained:
        return "  (the adapter's folder does not hold the template it was trained with)"
    lines = list(difflib.unified_diff(own.splitlines(), used.splitlines(), "trained with", "used", lineterm="", n=0))
    more = [f"... and {len(lines) - SHOWN} lines more"] if len(lines) > SHOWN else []
    return "\n".join("  " + line[:200] for line in (*lines[:SHOWN], *more))


def fingerprint(folders: Sequence[Path], *settings: Any) -> str:
    """By which answers are found again: changes with the files of a model, the settings, and the versions that compute."""
    files = [
        (file.name, file.stat().st_size, file.stat().st_mtime_ns)
        for folder in folders
        for file in sorted(folder.iterdir())
        if file.suffix in (".json", ".safetensors", ".bin", ".jinja", ".model")
    ]
    text = json.dumps([files, settings, nlpft.__version__, torch.__version__], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
