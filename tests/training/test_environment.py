"""What a run says of the software it stands on, and what has changed since."""

import subprocess
import sys

from nlpft.recipes_dir import recipes_dir
from nlpft.training import environment
from nlpft.training.environment import checkout, differences

NOW = {"python": "3.11.2", "packages": {"torch": "2.13.0", "peft": None}, "commit": "ab", "changed": []}


def git(folder, *words):
    who = ["-c", "user.name=me", "-c", "user.email=me@here"]
    return subprocess.run(
        ["git", "-C", folder, *who, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_a_checkout_names_its_commit_and_the_files_changed_since(tmp_path):
    (tmp_path / "package").mkdir()
    file = tmp_path / "package" / "code.py"
    file.write_text("1")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "all")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert checkout(file.parent) == {"commit": commit, "changed": []}
    file.write_text("2")
    (tmp_path / "notes.txt").touch()
    assert checkout(file.parent) == {"commit": commit, "changed": ["package/code.py"]}
    installed = tmp_path / ".venv"  # an environment inside somebody's checkout: the commit is not nlpft's
    installed.mkdir()
    assert checkout(installed) == {"commit": None, "changed": None}


def test_no_checkout_has_no_commit(tmp_path):
    assert checkout(tmp_path) == {"commit": None, "changed": None}


def test_nothing_is_said_of_what_is_the_same():
    assert differences(NOW, NOW) == []


def test_each_difference_has_a_line():
    before = {"python": "3.11.2", "packages": {"torch": "2.11.0", "peft": "0.21"}, "commit": "cd", "changed": ["a.py"]}
    assert differences(before, NOW) == [
        "torch: 2.11.0 then, 2.13.0 now",
        "peft: 0.21 then, None now",
        "commit: cd then, ab now",
        "changed since the commit, then: a.py",
    ]


def test_a_recipe_of_nlpfts_is_named_and_another_is_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(recipes_dir() / "sft.py")])
    assert environment.recipe() == "sft"
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "sft.py")])
    assert environment.recipe() == str(tmp_path / "sft.py")
