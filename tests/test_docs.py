"""The README's commands run as they stand, its table points at files that exist, and the shipped configurations are valid."""

import re
import shlex
from pathlib import Path

import pretrain
import pytest
import sft
import tiny

from nlpft import cli, config, plugins

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.partition("#")[0].strip() for block in BLOCKS for line in block.splitlines()]
PROSE_COMMANDS = re.findall(r"`(nlpft [a-z]+ [^`]*runs/mine[^`]*)`", README)


def test_the_first_two_commands_are_scripts_that_exist():
    assert COMMANDS[:2] == ["bash scripts/quickstart.sh", "bash scripts/test.sh"]
    assert all((ROOT / command.split()[1]).is_file() for command in COMMANDS[:2])


def test_your_own_data_runs_from_file_to_report(tmp_path, tiny_folder, monkeypatch):
    """The block 'Your own data', then the commands named in the prose behind it, on a tiny model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", (tmp_path / "question").open("w+"))
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    rows = [tiny.chat(f"word {n}", f"reply {n}") for n in range(12)]
    tiny.write_jsonl(tmp_path / "chats.jsonl", rows)
    tiny.write_json(tmp_path / "more.json", rows)
    tiny.write_json(tmp_path / "heldout.json", rows[:4])
    nlpft_commands = [command for command in COMMANDS[3:] if command]
    assert [shlex.split(c)[:2] for c in nlpft_commands] == [
        ["nlpft", name]
        for name in ("convert", "inspect", "train", "eval", "eval", "compare", "label", "train", "predict", "convert")
    ]
    labelled = [
        f"{text} {n}\t{label}" for n in range(12) for text, label in (("good word", "yes"), ("bad reply", "no"))
    ]
    for name in ("train", "dev", "test", "new"):
        lines = [f"{line} {name}" if name == "x" else line.replace("\t", f" {name}\t") for line in labelled]
        (tmp_path / f"{name}.tsv").write_text("\n".join(["text\tlabel", *lines]) + "\n")
    talk = [{"who": "user", "text": "word"}, {"who": "tutor", "text": "reply"}]
    tiny.write_jsonl(tmp_path / "talks.jsonl", [{"dialog": talk}])
    own = {"smollm2-135m": str(tiny_folder), "MODEL": str(tiny_folder)}
    for command in [*nlpft_commands, *PROSE_COMMANDS]:
        words = [own.get(word, word) for word in shlex.split(command)[1:]]
        if words[0] in ("train", "convert"):  # the default model is not the tiny one
            words += ["--model", str(tiny_folder)]
        assert cli.main(words) == 0, command
    assert len(PROSE_COMMANDS) == 3
    assert (tmp_path / "runs/mine/report.html").stat().st_size > 10_000


def test_the_table_points_at_what_exists():
    table = README.split("## Where is ...")[1].split("##")[0]
    rows = [line.split("|")[2] for line in table.splitlines() if line.startswith("|")][2:]
    assert len(rows) >= 10
    for row in rows:
        folder = ROOT
        for path in re.findall(r"`([^`]+)`", row):
            found = ROOT / path if "/" in path else folder / path
            folder = found.parent
            assert found.exists(), path


@pytest.mark.parametrize("path", sorted((ROOT / "recipes/configs").glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_configurations_are_valid(path):
    recipe = (
        pretrain if path.name.startswith("pretrain_") else sft
    )  # a config's name begins with its recipe's; sft's do not
    found = config.load(recipe.Config, path)
    assert found.data.packs_per_step >= 1
    assert not getattr(found, "from_config", None) or (ROOT / found.from_config).is_file()


def test_recipes_are_short():
    for path in (ROOT / "recipes").glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 150


def test_every_command_is_in_the_readme():
    for name in (stem.replace("_", "-") for stem in plugins.names("commands")):
        assert re.search(rf"nlpft {name}\b|`{name}`", README), name
