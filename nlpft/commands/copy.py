"""Copy a recipe or one of its configs into your own folder, to be edited there."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import tyro

from nlpft import plugins
from nlpft.errors import ConfigError, RunExists
from nlpft.recipes_dir import config_names, recipe_names, recipes_dir


@dataclass(frozen=True)
class Config:
    recipe: tyro.conf.Positional[str]
    """A recipe (sft) or a config (configs/smollm2_lora.yaml); `nlpft list recipes` and `nlpft list configs` show them."""
    dest: tyro.conf.Positional[Path] = Path()
    """File to write, or folder to write into; default: the current folder."""
    overwrite: bool = False
    """Replace the file if it is already there."""


def run(config: Config) -> int:
    source = find(config.recipe)
    into = config.dest.is_dir() or not config.dest.suffix
    target = config.dest / source.name if into else config.dest
    if target.exists() and not config.overwrite:
        raise RunExists(f"{target}: already there; name another file or allow it by --overwrite")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written: {error}") from error
    print(f"{target}: copied; {use(target)}")
    return 0


def find(name: str) -> Path:
    """The file of recipe or config `name`. Raises ConfigError where there is none."""
    files = {recipe: f"{recipe}.py" for recipe in recipe_names()} | {config: config for config in config_names()}
    for guess in (name, name.removesuffix(".py"), f"configs/{name}", f"configs/{name}.yaml"):
        if guess in files:
            return recipes_dir() / files[guess]
    raise ConfigError(f"unknown recipe {name!r}{plugins.suggest(name, list(files))}; known: {', '.join(files)}")


def use(target: Path) -> str:
    """What to do with the copy."""
    if target.suffix == ".py":
        return f"run it by: nlpft train {target} --help"
    return f"use it by: nlpft train RECIPE --config {target}"
