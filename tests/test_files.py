"""Folders and files that are there as a whole or not at all: what the killed leave goes away, what the living make stays."""

import signal
import subprocess
import sys

import pytest

from nlpft import files

KILLED = """
import os, signal, sys
from pathlib import Path
from nlpft import files
with getattr(files, sys.argv[1])(Path(sys.argv[2])) as new:
    (new / "half").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(kind, target) -> None:
    """A process that is killed while it makes `target`."""
    ended = subprocess.run([sys.executable, "-c", KILLED, kind, str(target)], check=False)
    assert ended.returncode == -signal.SIGKILL


def left(folder) -> list[str]:
    return sorted(path.name for path in folder.rglob("half"))


@pytest.mark.parametrize("kind", ["whole_folder", "whole_file"])
def test_what_a_killed_process_left_is_removed_by_the_next_call_for_the_same_target(tmp_path, kind):
    killed(kind, tmp_path / "out")
    killed(kind, tmp_path / "out.x")
    assert left(tmp_path) == ["half", "half"]
    with getattr(files, kind)(tmp_path / "out") as new:
        (new / "out").touch()
    assert left(tmp_path) == ["half"]
    assert all(path.name.startswith(".out.x.") for path in tmp_path.glob(".*"))


def test_what_a_living_process_makes_stays(tmp_path):
    with files.whole_folder(tmp_path / "out") as first:
        (first / "mine").touch()
        with files.whole_folder(tmp_path / "out"):
            pass
        assert (first / "mine").is_file()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
