"""A run's folder -> launch options, recipe and settings that repeat it: `nlpft train --from RUN`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nlpft.data import store
from nlpft.errors import ConfigError
from nlpft.recipes_dir import recipe_names, recipes_dir
from nlpft.rundir import RunDir
from nlpft.training.environment import differences, software

LAUNCHED = {"NO", "MULTI_CPU", "MULTI_GPU"}  # distributed types for which the number of processes is enough


def repeat(folder: str, options: Sequence[str], more: Sequence[str]) -> tuple[list[str], Path, list[str]]:
    """(launch options, the recipe's file, its settings and then `more`) for a new run, in RUN-again unless `more` says where.

    options: launch options in place of the run's own. Names on stderr what is another version now. Raises ConfigError where
    `folder` is no run or says too little, where it does not say how it was launched and no option does, and where a dataset that
    `more` does not replace is gone, or was converted anew from other rows or settings.
    """
    run = RunDir(Path(folder))
    before = _read(run.environment, ("recipe", "packages", "processes", "threads", "launch"))
    given = {word.partition("=")[0].replace("-", "_") for word in more}
    for name, facts in _read(run.data, ()).items():
        if f"__data.{name}" not in given:
            _check_same(facts)
    recipe = _recipe(before["recipe"])
    for line in differences(before, software()):
        print(line, file=sys.stderr)
    output = run.path.with_name(f"{run.path.resolve().name}-again")
    settings = ["--config", str(run.config), "--no_resume", "--output_dir", str(output)]
    return list(options) or _launch(before, folder), recipe, [*settings, *more]


def _launch(before: dict[str, Any], folder: str) -> list[str]:
    """Options of `accelerate launch` under which a run computes as the one that wrote `before`."""
    launch = before["launch"]
    if launch["distributed_type"] not in LAUNCHED or launch["machines"] > 1:
        raise ConfigError(
            f"{folder}: ran under {launch['distributed_type']}, machines: {launch['machines']}; give its launch file again: "
            f"nlpft train --config_file FILE --from {folder}"
        )
    given = {
        "num_processes": before["processes"],
        "num_cpu_threads_per_process": before["threads"],  # sums in another number of parts are rounded otherwise
        "mixed_precision": launch["mixed_precision"],
    }
    words = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    return ["--cpu", *words] if launch["device_type"] == "cpu" else words


def _recipe(name: str) -> Path:
    recipe = recipes_dir() / f"{name}.py" if name in recipe_names() else Path(name)
    if not recipe.is_file():
        raise ConfigError(
            f"{name}: the run's recipe is gone; nlpft train RECIPE --config RUN/config.yaml takes another"
        )
    return recipe


def _read(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); --from takes the folder of a run") from error
    if missing := [key for key in keys if key not in found]:
        raise ConfigError(
            f"{path}: written by an nlpft that did not note {', '.join(missing)}; begin a run like it by "
            f"nlpft train RECIPE --config {path.with_name('config.yaml')} --output_dir DIR"
        )
    return found


def _check_same(facts: dict[str, Any]) -> None:
    folder = Path(facts["folder"])
    if not folder.is_dir():
        raise ConfigError(f"{folder}: not here any more, or --from was called from another folder than the run")
    if store.facts(folder).get("fingerprint") != facts.get("fingerprint"):
        raise ConfigError(
            f"{folder}: converted anew since that run, from other rows or settings; convert it as data.json says, "
            "or begin a run of your own"
        )
