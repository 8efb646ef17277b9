"""The folder is the registry: plug-in NAME of KIND is the module nlpft/KIND/NAME.py, or any dotted path of the user's own."""

import ast
import difflib
import importlib
import re
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from nlpft.errors import ConfigError

ROOT = Path(__file__).parent
DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


@lru_cache
def names(kind: str) -> list[str]:
    """Names of the plug-ins that ship in `nlpft/<kind>/`, sorted. Imports none of them."""
    return sorted(path.stem for path in (ROOT / kind).glob("*.py") if not path.name.startswith("_"))


def load(kind: str, name: str) -> ModuleType:
    """Import plug-in `name` of `kind`; a dotted `name` is imported as it stands.

    Raises ConfigError where there is no such plug-in.
    """
    if DOTTED.fullmatch(name):
        sys.path[:] = list(dict.fromkeys([*sys.path, str(Path.cwd())]))  # the user's own modules lie where they work
        try:
            return importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(f"{kind} {name!r}: no module of that name can be imported ({error})") from error
    if name not in names(kind):
        one = re.sub("ie$", "y", kind.removesuffix("s"))
        raise ConfigError(f"unknown {one} {name!r}{suggest(name, names(kind))}; known: {', '.join(names(kind))}")
    return importlib.import_module(f"nlpft.{kind}.{name}")


def settings(kind: str, name: str) -> Any:
    """The default settings of plug-in `name`. Raises ConfigError where it is not there or has none."""
    module = load(kind, name)
    if not hasattr(module, "Config"):
        raise ConfigError(f"{kind} {name!r}: the module has no Config; nlpft/{kind}/__init__.py states the contract")
    return module.Config()


def summary(kind: str, name: str) -> str:
    """First line of a plug-in's docstring, read without importing it."""
    text = (ROOT / kind / f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


def suggest(word: str, known: list[str]) -> str:
    """'; did you mean ...?' for the nearest of `known`, or nothing."""
    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {near[0]!r}?" if near else ""
