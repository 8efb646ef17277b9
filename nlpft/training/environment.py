"""The software that a run stands on: versions, commit and recipe, for environment.json; loads no torch."""

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from nlpft.recipes_dir import recipes_dir
from nlpft.versions import version

PACKAGES = ("nlpft", "torch", "transformers", "peft", "accelerate", "tokenizers", "numpy", "pyarrow")


def software() -> dict[str, Any]:
    """Versions of Python and packages (None: not installed), the commit that nlpft runs from and the files changed since."""
    packages = {name: version(name) for name in PACKAGES}
    return {"python": platform.python_version(), "packages": packages, **checkout(Path(__file__).parent)}


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """A line for each thing of `software` that is another `now`; files changed since a commit make it unknown what ran."""
    pairs = {name: (version, now["packages"].get(name)) for name, version in before["packages"].items()}
    pairs |= {key: (before.get(key), now[key]) for key in ("python", "commit")}
    lines = [f"{name}: {then} then, {today} now" for name, (then, today) in pairs.items() if then != today]
    changed = [(word, of["changed"]) for word, of in (("then", before), ("now", now)) if of.get("changed")]
    return lines + [f"changed since the commit, {word}: {', '.join(files)}" for word, files in changed]


def checkout(folder: Path) -> dict[str, Any]:
    """`commit` of the checkout that `folder` is part of, and its files `changed` since; both None where it is in none.

    An installed package may lie inside another project's checkout, which does not know its files: it is in none.
    """
    if not _git(folder, "ls-files"):
        return {"commit": None, "changed": None}
    status = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": _git(folder, "rev-parse", "HEAD")[0], "changed": [line[3:] for line in status]}


def _git(folder: Path, *words: str) -> list[str]:
    """Lines that git writes; none where it fails, or is not installed."""
    command = ["git", "-C", str(folder), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return []


def recipe() -> str:
    """Name of the recipe that runs, or its file where it is no recipe of nlpft's."""
    file = Path(sys.argv[0]).resolve()
    return file.stem if file.parent == recipes_dir().resolve() else str(file)
