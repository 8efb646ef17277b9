"""Where the recipes lie: beside the package in a checkout, inside it in an installed wheel."""

import ast
from pathlib import Path

from nlpft import plugins

PLACES = (plugins.ROOT / "recipes", plugins.ROOT.parent / "recipes")


def recipes_dir() -> Path:
    """The folder with the recipe scripts, `configs/` and what else comes with them."""
    return next(path for path in PLACES if path.is_dir())


def recipe_names() -> list[str]:
    """Names of the recipe scripts, sorted: 'sft' is sft.py."""
    return sorted(path.stem for path in recipes_dir().glob("*.py") if not path.name.startswith("_"))


def config_names() -> list[str]:
    """The YAML files below the folder of recipes, sorted: 'configs/smollm2_lora.yaml'."""
    return sorted(path.relative_to(recipes_dir()).as_posix() for path in recipes_dir().glob("*/*.yaml"))


def summary(name: str) -> str:
    """What recipe or config `name` is for: the first line of its docstring or, in YAML, of its comment."""
    if name.endswith(".yaml"):
        first = (recipes_dir() / name).read_text(encoding="utf-8").partition("\n")[0]
        return first.removeprefix("#").strip() if first.startswith("#") else ""
    tree = ast.parse((recipes_dir() / f"{name}.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").partition("\n")[0]
