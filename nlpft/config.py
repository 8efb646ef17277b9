"""Settings: frozen dataclasses <- YAML <- command line, all through tyro, so that every key is checked in one place.

A YAML file is read as the arguments it stands for (`optim: {lr: 1e-4}` is `--optim.lr 1e-4`) and parsed before the command
line's own: the types, the suggestions for a misspelt key and the text of an error are the same for both.
"""

import contextlib
import dataclasses
import io
import itertools
import re
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro
import yaml

from nlpft import plugins
from nlpft.errors import ConfigError

T = TypeVar("T")

NUMBERS = {".inf": "inf", "-.inf": "-inf", ".nan": "nan"}  # as YAML writes what Python's float() reads

CONVENTIONS = (tyro.conf.AvoidSubcommands, tyro.conf.HelptextFromCommentsOff)


def plugin(kind: str, default: str) -> Any:
    """A field whose `name` picks nlpft/<kind>/<name>.py; its other keys are that module's `Config`."""
    return dataclasses.field(default_factory=lambda: plugins.load(kind, default).Config(), metadata={"kind": kind})


def module_of(settings: Any) -> Any:
    """The plug-in module that a plug-in's Config came from."""
    return sys.modules[type(settings).__module__]


def parse(cls: type[T], argv: Sequence[str], prog: str | None = None) -> T:
    """Build `cls` from its defaults, then the file named by `--config`, then the other arguments of `argv`.

    Raises ConfigError naming the key at fault; `--help` prints every setting and exits.
    """
    file, typed = _take_config(list(argv))
    from_file = flatten(_read_yaml(file)) if file else {}
    chosen = _plugin_names(typed)
    for name in (n for n in chosen if n in from_file and from_file[n] != chosen[n]):
        # Another plug-in than the file's: the file's settings were for its own.
        from_file = {k: v for k, v in from_file.items() if not k.startswith(name.removesuffix("name"))}
    default = _default(cls, {**from_file, **chosen})
    switches = dict(_switches(default)) if default else {}
    overridden = {word.partition("=")[0].replace("-", "_") for word in typed if word.startswith("--")}
    places = [name for name in _positional(cls) if name in from_file]
    first = [str(word) for name in places for word in _listed(from_file.pop(name))]
    own = list(itertools.takewhile(lambda word: not word.startswith("-"), typed))
    words = (own or first) + [
        word
        for key, value in from_file.items()
        if not {f"__{key}", f"__{_negated(key)}"} & overridden
        for word in _words(key, value, switches, file or "")
    ]
    try:
        return _tyro(cls, [*words, *typed[len(own) :]], default, prog)
    except ConfigError as error:
        named = [key for key in from_file if f"--{key}" in str(error)]
        raise ConfigError(f"{file}: {error}") if named else error from None


def load(cls: type[T], path: str | Path) -> T:
    """The configuration that `dump` wrote to `path`."""
    return parse(cls, ["--config", str(path)])


def dump(settings: Any) -> str:
    """YAML text that `load` reads back to an equal configuration."""
    return yaml.safe_dump(_plain(settings), sort_keys=False, allow_unicode=True)


def flat(settings: Any) -> dict[str, Any]:
    """Settings by dotted key: {'optim.lr': 0.0002, ...}."""
    return flatten(_plain(settings))


def flat_text(settings: Any) -> dict[str, str]:
    """Settings by dotted key as text, which every experiment tracker takes."""
    return {key: str(value) for key, value in flat(settings).items()}


def check_same(old: T, new: T, free: Sequence[str]) -> None:
    """Raise ConfigError, with both values, where a setting differs whose key does not begin with one of `free`."""
    changed = differences(flat(old), flat(new), free)
    if changed:
        raise ConfigError("a resumed run keeps its settings; these differ:\n" + "\n".join(changed))


def differences(before: Mapping[str, Any], after: Mapping[str, Any], free: Sequence[str] = ()) -> list[str]:
    """A line with both values for each key that differs and does not begin with one of `free`."""
    return [
        f"  {key}: {before.get(key)!r} then, {after.get(key)!r} now"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not key.startswith(tuple(free))
    ]


def _tyro(cls: type[T], words: list[str], default: T | None, prog: str | None) -> T:
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            return tyro.cli(
                cls,
                args=words,
                prog=prog,
                default=tyro.MISSING_NONPROP if default is None else default,
                use_underscores=True,
                config=CONVENTIONS,
            )
    except SystemExit as end:
        if not end.code:  # --help
            raise
        raise ConfigError(_without_box(printed.getvalue())) from None


def _without_box(text: str) -> str:
    """tyro's error panel as plain lines."""
    lines = [line.strip("│╭╮╰╯─ ") for line in text.splitlines()]
    return "\n  ".join(line for line in lines if line)


def _default(cls: type[T], chosen: dict[str, Any]) -> T | None:
    """An instance of `cls` with the chosen plug-ins' settings, or None where `cls` has fields without a default."""
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    if any(f.default is f.default_factory is dataclasses.MISSING for f in fields):
        return None
    picked = {
        f.name: plugins.settings(f.metadata["kind"], chosen[f"{f.name}.name"])
        for f in fields
        if "kind" in f.metadata and f"{f.name}.name" in chosen
    }
    return cls(**picked)


def _plugin_names(words: Sequence[str]) -> dict[str, str]:
    """Values of the arguments that end in `.name`, which choose plug-ins."""
    found = {}
    for word, following in itertools.pairwise([*words, ""]):
        key, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and key.endswith(".name"):
            found[key] = value if equals else following
    return found


def _positional(cls: type) -> list[str]:
    """Names of the fields that stand on the command line without their names."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return [name for name, hint in hints.items() if tyro.conf.Positional in getattr(hint, "__metadata__", ())]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def flatten(tree: dict[str, Any], joint: str = ".", prefix: str = "") -> dict[str, Any]:
    """Values of nested mappings, their keys joined by `joint`."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        out |= flatten(value, joint, f"{name}{joint}") if isinstance(value, dict) else {name: value}
    return out


def _take_config(argv: list[str]) -> tuple[str | None, list[str]]:
    """Split off `--config FILE` or `--config=FILE`."""
    for i, word in enumerate(argv):
        if word.startswith("--config="):
            return word.partition("=")[2], argv[:i] + argv[i + 1 :]
        if word == "--config":
            if i + 1 == len(argv):
                raise ConfigError("--config needs a YAML file behind it")
            return argv[i + 1], argv[:i] + argv[i + 2 :]
    return None, argv


class _Text(yaml.BaseLoader):
    """Leaves every scalar but null as the text it is: YAML 1.1 reads 1e-4 as text and `no` as a boolean."""


_Text.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Text.add_constructor("tag:yaml.org,2002:null", lambda loader, node: None)


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        tree = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_Text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); --config takes a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {error}") from error
    if tree and not isinstance(tree, dict):
        raise ConfigError(f"{path}: a configuration is a mapping of keys to values, not a {type(tree).__name__}")
    return tree or {}


def _negated(key: str) -> str:
    """The flag that sets a boolean `key` to false: a.b -> a.no_b."""
    parent, dot, leaf = key.rpartition(".")
    return f"{parent}{dot}no_{leaf}"


def _switches(settings: Any, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """The keys that are true or false, and whether they may be unset too: tyro takes those as a choice, the others as flags."""
    hints = typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value, kinds = getattr(settings, field.name), {hints[field.name], *typing.get_args(hints[field.name])}
        if dataclasses.is_dataclass(value):
            yield from _switches(value, f"{prefix}{field.name}.")
        elif bool in kinds and kinds <= {bool, type(None), hints[field.name]}:
            yield f"{prefix}{field.name}", type(None) in kinds


def _words(key: str, value: Any, switches: dict[str, bool], file: str) -> list[str]:
    """The command line that one entry of a YAML file stands for."""
    if key in switches and not (value is None and switches[key]):
        said = str(value).lower()
        if said not in ("true", "false"):
            raise ConfigError(f"{file}: {key} is true or false, not {value!r}")
        if switches[key]:
            return [f"--{key}", said.capitalize()]
        return [f"--{key if said == 'true' else _negated(key)}"]
    if isinstance(value, list):
        return [f"--{key}", *map(str, value)]
    text = "None" if value is None else NUMBERS.get(value, str(value))
    # Two words, for which tyro suggests the nearest key; one where the value would look like a key itself.
    return [f"--{key}={text}"] if text.startswith("-") else [f"--{key}", text]
