"""The folder is the registry: plug-in NAME of KIND is the module nlpft/KIND/NAME.py, or any dotted path of the user's own."""

import ast
import difflib
import importlib
from pathlib import Path
from types import ModuleType

from nlpft.errors import ConfigError

ROOT = Path(__file__).parent


def names(kind: str) -> list[str]:
    """Names of the plug-ins that ship in `nlpft/<kind>/`, sorted. Imports none of them."""
    return sorted(path.stem for path in (ROOT / kind).glob("*.py") if not path.name.startswith("_"))


def load(kind: str, name: str) -> ModuleType:
    """Import plug-in `name` of `kind`; a dotted `name` is imported as it stands.

    Raises ConfigError where there is no such plug-in.
    """
    if "." in name:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise ConfigError(f"{kind} {name!r}: no module of that name can be imported ({error})") from error
    if name not in names(kind):
        one = kind.removesuffix("s")
        raise ConfigError(f"unknown {one} {name!r}{suggest(name, names(kind))}; known: {', '.join(names(kind))}")
    return importlib.import_module(f"nlpft.{kind}.{name}")


def summary(kind: str, name: str) -> str:
    """First line of a plug-in's docstring, read without importing it."""
    text = (ROOT / kind / f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


def suggest(word: str, known: list[str]) -> str:
    """'; did you mean ...?' for the nearest of `known`, or nothing."""
    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {near[0]!r}?" if near else ""
