"""Train: `accelerate launch` of a recipe, on one process or many."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from nlpft import plugins
from nlpft.commands._again import repeat
from nlpft.errors import ConfigError
from nlpft.recipes_dir import recipe_names, recipes_dir, summary

USAGE = """\
nlpft train [LAUNCH OPTIONS] RECIPE [SETTINGS]
nlpft train [LAUNCH OPTIONS] --from RUN [SETTINGS]

RECIPE            one of those below, or a .py file of your own (`nlpft copy RECIPE` makes one to begin with)
RUN               a run's folder: its recipe, settings, data and launch again, checked; what else is given wins
SETTINGS          the recipe's: `nlpft train RECIPE --help` shows them all
LAUNCH OPTIONS    how many processes and where, as in `accelerate launch` (`accelerate launch --help` shows them all);
                  without any: every GPU of this machine or, where there is none, one process on the CPU

Recipes:
{recipes}

Examples:
  nlpft train sft --data.train data/train --output_dir runs/first
  nlpft train sft --config my.yaml --optim.lr 1e-4
  nlpft train --num_processes 2 --mixed_precision bf16 sft --config my.yaml
  nlpft train --cpu --num_processes 2 sft --config my.yaml
  nlpft train my_recipe.py --config my.yaml
  nlpft train --from runs/first                        repeats it, into runs/first-again"""

# Where Linux shows GPUs and other accelerators.
ACCELERATORS = ("nvidia[0-9]*", "kfd", "dri/renderD*", "accel*", "davinci[0-9]*", "habanalabs/*", "neuron[0-9]*")


def run(words: list[str]) -> int:
    """Run the launcher, or where it would start one process the recipe itself, and return its exit code.

    words: as typed behind `nlpft train`. Raises ConfigError where no recipe is named, or it does not exist.
    """
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0 if words else 2
    options, recipe, settings = split(words)
    direct = {"-h", "--help"} & set(settings) or (not options and one_process())
    launcher = [] if direct else ["-m", "nlpft.commands._launch", *options]
    return follow([sys.executable, *launcher, str(recipe), *settings])


def follow(command: Sequence[str]) -> int:
    """Run `command` to its end, however this process is told to stop; returns its exit code, or 128 + its signal."""
    child = subprocess.Popen(command)

    def pass_on(number: int, frame: object) -> None:
        # Ctrl-C has reached the child too: a terminal sends it to all. A second one would interrupt its goodbye.
        if number != signal.SIGINT or not sys.stdin.isatty():
            child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def usage() -> str:
    """Text of `nlpft train --help`."""
    return USAGE.format(recipes="\n".join(f"  {name:<15} {summary(name)}" for name in recipe_names()))


def split(words: Sequence[str]) -> tuple[list[str], Path, list[str]]:
    """(launch options, file of the recipe, the recipe's settings).

    The recipe is the first word that is a recipe's name or ends in .py, or that of the run behind --from,
    whose own launch options and settings come then too.
    Raises ConfigError where there is none.
    """
    for at, word in enumerate(words):
        if word == "--from":
            if at + 1 == len(words):
                raise ConfigError("--from needs the folder of a run behind it")
            return repeat(words[at + 1], words[:at], words[at + 2 :])
        if word.startswith("--from="):
            return repeat(word.partition("=")[2], words[:at], words[at + 1 :])
        if word in recipe_names():
            return list(words[:at]), recipes_dir() / f"{word}.py", list(words[at + 1 :])
        if word.endswith(".py"):
            if not Path(word).is_file():
                raise ConfigError(f"{word}: no such file{plugins.suggest(word.removesuffix('.py'), recipe_names())}")
            return list(words[:at]), Path(word), list(words[at + 1 :])
        if at == 0 and not word.startswith("-"):
            break  # not the value of an option, so it can only have been meant as the recipe
    raise ConfigError(_no_recipe(words))


def _no_recipe(words: Sequence[str]) -> str:
    """What to say where no word is a recipe: the likeliest of the bare words was meant to be one."""
    bare = [word for word in words if not word.startswith("-")]
    if bare and bare[0] == words[0]:
        bare = bare[:1]
    meant = next((word for word in bare if plugins.suggest(word, recipe_names())), bare[0] if bare else None)
    known = f"known: {', '.join(recipe_names())}, or a .py file"
    if meant is None:
        return f"no recipe named; {known}: nlpft train [LAUNCH OPTIONS] RECIPE [SETTINGS]"
    if meant.endswith((".yaml", ".yml")):
        return f"{meant} is a configuration; name the recipe it is for: nlpft train RECIPE --config {meant}"
    return f"unknown recipe {meant!r}{plugins.suggest(meant, recipe_names())}; {known}"


def one_process() -> bool:
    """Whether `accelerate launch` without options is sure to run the script as it is, once, with default settings.

    So it is on a CPU without a saved `accelerate config`. Running the recipe at once is then the same, but faster: the launcher
    would import torch first (3 s), and it gives a CPU script one thread (OMP_NUM_THREADS=1) unless told otherwise.
    """
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    saved = (Path(home).expanduser() / "accelerate").glob("default_config.*")
    devices = (path for pattern in ACCELERATORS for path in Path("/dev").glob(pattern))
    return sys.platform == "linux" and not any(saved) and not any(devices)
