"""A run's folder -> the recipe and settings that repeat it: `nlpft train --from RUN`."""

import json
import sys
from pathlib import Path
from typing import Any

from nlpft.data import store
from nlpft.errors import ConfigError
from nlpft.recipes_dir import recipe_names, recipes_dir
from nlpft.rundir import RunDir
from nlpft.versions import version


def repeat(folder: str, more: list[str]) -> tuple[Path, list[str]]:
    """(the recipe's file, its settings and then `more`) for a new run, in RUN-again unless `more` says where.

    Names on stderr each package whose version is another now. Raises ConfigError where it is no run, or a dataset has been
    converted anew from other rows or settings.
    """
    run = RunDir(Path(folder))
    environment, data = (_read(path) for path in (run.environment, run.data))
    for facts in data.values():
        _check_same(facts)
    for name, before in environment["packages"].items():
        if before != (now := version(name)):
            print(f"{name}: {before} then, {now} now", file=sys.stderr)
    name = environment["recipe"]
    recipe = recipes_dir() / f"{name}.py" if name in recipe_names() else Path(name)
    output = run.path.with_name(f"{run.path.resolve().name}-again")
    return recipe, ["--config", str(run.config), "--no_resume", "--output_dir", str(output), *more]


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); --from takes the folder of a run") from error


def _check_same(facts: dict[str, Any]) -> None:
    now = store.facts(Path(facts["folder"]))
    if now.get("fingerprint") != facts.get("fingerprint"):
        raise ConfigError(
            f"{facts['folder']}: converted anew since that run, from other rows or settings; convert it as data.json says, "
            "or begin a run of your own"
        )
