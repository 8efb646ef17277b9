"""The files of a finished model as others may see them: its base by its name on the hub, and no path of this machine."""

import json
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from nlpft.errors import ConfigError, ModelError

WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "adapter_model.bin", "*.gguf", "*.onnx")
WANTED = (*WEIGHTS, "*.json", "*.jinja", "*.model", "*.txt", "*.md", "*.onnx.data", "Modelfile")
PLACES = ("merged_from", "exported_from", "combined_from")  # in nlpft.json
REPO = re.compile(r"[\w.-]+/[\w.-]+")
PATH = re.compile(r"(?<![\w/.~])/([\w.@+=~-]+)(?:/[\w.@+=~-]+)+")
FRONT = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)  # a card's metadata


class Names(NamedTuple):
    """What things are called on the hub."""

    repo: str
    own: str | None  # what the adapter calls its base
    base: str | None  # what that is on the hub


def contents(folder: Path, repo: str, base: str | None) -> dict[str, Path | bytes]:
    """What goes to the repository `repo`, by name: files as they are, and those that would name places of this machine rewritten.

    Raises ModelError where there are no weights, ConfigError where an adapter names a folder of this machine, which means nothing
    to others, and no `base` is given.
    """
    files = {path.name: path for path in sorted(folder.iterdir()) if path.is_file() and _matches(path.name, WANTED)}
    if not any(_matches(name, WEIGHTS) for name in files):
        raise ModelError(f"{folder}: holds no weights ({', '.join(WEIGHTS)}), so there is no model to upload")
    own = base_of(folder)
    if own is None and base is not None:
        raise ConfigError(f"--base {base}: {folder} holds no adapter; leave it out")
    if own is not None and base is None and (not REPO.fullmatch(own) or Path(own).is_dir()):
        raise ConfigError(
            f"{folder}: names its base by a folder of this machine, {own}, where nobody else finds it; "
            "say by --base owner/name what it is on the hub"
        )
    names = Names(repo, own, base or own)
    return {name: _published(path, names) for name, path in files.items()}


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def base_of(folder: Path) -> str | None:
    """What the adapter in `folder` calls its base. Raises ModelError where that cannot be read."""
    path = folder / "adapter_config.json"
    if not path.is_file():
        return None
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: broken ({type(error).__name__}: {error}); was it copied whole?") from error


def _published(path: Path, names: Names) -> Path | bytes:
    rewrite = REWRITTEN.get(path.name)
    if rewrite is None:
        return path
    try:
        before = path.read_text(encoding="utf-8")
        after = rewrite(before, names)
    except (ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise ModelError(f"{path}: broken ({type(error).__name__}: {error}); was it copied whole?") from error
    return path if after == before else after.encode()


def _settings(text: str, names: Names) -> str:
    """The JSON of a configuration."""
    found = {key: _here(value, names) for key, value in json.loads(text).items() if key not in PLACES}
    if names.base and "base_model_name_or_path" in found:
        found["base_model_name_or_path"] = names.base
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _facts(text: str, names: Names) -> str:
    """nlpft.json, which names the base as the user did."""
    found = json.loads(_settings(text, names))
    if names.base and "base" in found:
        found["base"] = names.base
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _here(value: Any, names: Names) -> Any:
    """A value of a configuration, in which a text that is a path of this machine is its last name."""
    if isinstance(value, dict):
        return {key: _here(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [_here(one, names) for one in value]
    return _without_paths(value, names) if isinstance(value, str) else value


def _without_paths(text: str, names: Names) -> str:
    """`text` with the base's name for its folder, and their last name for other paths below folders of this machine's root."""

    def told(match: re.Match[str]) -> str:
        return Path(match[0]).name if Path("/", match[1]).is_dir() else match[0]

    if names.own and names.base and names.own.startswith("/"):  # in which there may be blanks
        text = re.sub(rf"(?<![\w/.~-]){re.escape(names.own)}(?![\w/-])", lambda found: str(names.base), text)
    return PATH.sub(told, text)


def _card(text: str, names: Names) -> str:
    """README.md: its metadata names the base, which the hub links; what is called here is called by its name there."""
    front = FRONT.match(text)
    facts, body = (yaml.safe_load(front[1]) or {}, text[front.end() :]) if front else ({}, text)
    if names.base:
        facts["base_model"] = names.base
        if tags := facts.get("tags"):  # of which the hub makes its own for the base
            facts["tags"] = [tag for tag in tags if not str(tag).startswith("base_model:")]
        body = re.sub(r"(?m)(, trained by nlpft from ).+\.$", lambda found: f"{found[1]}{names.base}.", body)
    body = re.sub(r"(?m)^nlpft chat .+$", f"nlpft chat {names.repo}", body)
    head = yaml.safe_dump(facts, sort_keys=False, allow_unicode=True) if facts else ""
    return _without_paths(f"---\n{head}---\n{body}" if head else body, names)


def _modelfile(text: str, names: Names) -> str:
    """Ollama's Modelfile: it takes an adapter's base from a folder, which is another one everywhere."""
    lines = text.splitlines(keepends=True)
    if names.base and lines and lines[0].startswith("FROM /"):
        lines[0] = f"# a folder with the weights of {names.base}\nFROM {names.base}\n"
    return "".join(lines)


REWRITTEN = {
    "README.md": _card,
    "nlpft.json": _facts,
    "adapter_config.json": _settings,
    "config.json": _settings,
    "Modelfile": _modelfile,
}
