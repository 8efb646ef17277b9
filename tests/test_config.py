"""Settings: defaults < YAML < command line; what is misspelt is named; what is written reads back equal."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import tyro

from nlpft import config
from nlpft.errors import ConfigError


@dataclass(frozen=True)
class Optim:
    lr: float = 2e-4
    schedule: Literal["cosine", "linear"] = "cosine"
    nesterov: bool = False


@dataclass(frozen=True)
class Settings:
    model: str = "tiny"
    output_dir: Path = Path("runs/x")
    eval_data: Path | None = None
    resume: bool = False
    trackers: tuple[str, ...] = ()
    optim: Optim = Optim()
    tuning: Any = config.plugin("tuning", "lora")


def written(folder: Path, text: str) -> list[str]:
    file = folder / "settings.yaml"
    file.write_text(text, encoding="utf-8")
    return ["--config", str(file)]


def test_command_line_overrides_file_overrides_default(tmp_path):
    file = written(tmp_path, "model: from-file\noptim: {lr: 1e-3}\nresume: true\ntrackers: [wandb]\n")
    got = config.parse(Settings, [*file, "--optim.lr", "5e-5", "--no-resume", "--trackers", "tensorboard"])
    assert (got.model, got.optim.lr, got.resume, got.trackers) == ("from-file", 5e-5, False, ("tensorboard",))
    assert got.optim.schedule == "cosine"


def test_yaml_exponents_are_numbers(tmp_path):
    assert config.parse(Settings, written(tmp_path, "optim: {lr: 1e-4}")).optim.lr == 1e-4


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--tuning.rank", "4", "--tuning.targets", "q_proj", "v_proj"],
        ["--tuning.name", "freeze", "--tuning.train_last", "3", "--optim.nesterov"],
        ["--tuning.name=full", "--eval_data", "some/where", "--trackers", "wandb", "trackio", "--optim.lr", "1e-7"],
    ],
)
def test_dump_reads_back_equal(tmp_path, words):
    settings = config.parse(Settings, words)
    written(tmp_path, config.dump(settings))
    assert config.load(Settings, tmp_path / "settings.yaml") == settings


def test_plugin_name_in_file_picks_its_settings(tmp_path):
    got = config.parse(Settings, [*written(tmp_path, "tuning: {name: freeze, train_last: 3}"), "--tuning.train_head"])
    assert (got.tuning.name, got.tuning.train_last, got.tuning.train_head) == ("freeze", 3, True)


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("optim: {lrr: 1e-3}", [], ["settings.yaml", "--optim.lrr", "--optim.lr"]),
        ("", ["--optm.lr", "1"], ["--optm.lr", "--optim.lr"]),
        ("optim: {lr: fast}", [], ["settings.yaml", "--optim.lr", "fast"]),
        ("resume: maybe", [], ["settings.yaml", "resume", "maybe"]),
        ("", ["--optim.schedule", "cosin"], ["cosin", "cosine", "linear"]),
        ("tuning: {name: lorra}", [], ["lorra", "lora"]),
        ("tuning: {name: freeze, rank: 3}", [], ["settings.yaml", "--tuning.rank"]),
        ("- a\n- b", [], ["settings.yaml", "mapping"]),
        ("a: [", [], ["settings.yaml", "not YAML"]),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, words, said):
    with pytest.raises(ConfigError) as error:
        config.parse(Settings, [*written(tmp_path, text), *words])
    for part in said:
        assert part in str(error.value)


def test_another_plugin_on_the_command_line_leaves_the_files_settings_behind(tmp_path):
    got = config.parse(Settings, [*written(tmp_path, "tuning: {name: lora, rank: 3}"), "--tuning.name", "full"])
    assert got.tuning.name == "full"


def test_infinity_null_and_quoted_null_read_back(tmp_path):
    settings = config.parse(Settings, ["--optim.lr", "inf", "--model", "null"])
    written(tmp_path, config.dump(settings))
    assert config.load(Settings, tmp_path / "settings.yaml") == settings
    assert config.parse(Settings, written(tmp_path, "eval_data:")).eval_data is None


def test_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        config.parse(Settings, ["--config", "nowhere.yaml"])


@dataclass(frozen=True)
class Command:
    files: tyro.conf.Positional[tuple[str, ...]] = ()
    parts: tuple[str, ...] = ()
    quick: bool = False


def test_what_has_no_flag_on_the_command_line_stands_in_a_file_by_its_name(tmp_path):
    file = written(tmp_path, "files: [a.json, b.json]\nparts: [x, y]\nquick: true\n")
    assert config.parse(Command, file) == Command(("a.json", "b.json"), ("x", "y"), True)
    assert config.parse(Command, ["c.json", *file]) == Command(("c.json",), ("x", "y"), True)
    assert config.parse(Command, [*file, "--parts", "z"]) == Command(("a.json", "b.json"), ("z",), True)


@dataclass(frozen=True)
class Unset:
    inner: bool | None = None
    outer: bool | None = False
    plain: bool = True


@pytest.mark.parametrize("settings", [Unset(), Unset(True, None, False), Unset(False, True, True)])
def test_what_may_be_unset_reads_back_whatever_its_default(settings, tmp_path):
    (tmp_path / "settings.yaml").write_text(config.dump(settings))
    assert config.load(Unset, tmp_path / "settings.yaml") == settings
