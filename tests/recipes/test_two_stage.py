"""recipes/two_stage.py: resumed it ends in the same weights, reuses no stage of other settings, and says what it gained."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import corpora
import pytest
import tiny
import two_stage

from nlpft import config
from nlpft.data import store
from nlpft.data.convert import Options, convert
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ConfigError, DataError, RunExists
from nlpft.training.stages import weights_hash


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_folder):
    """A folder with raw text, general text, chats, and both stages' settings."""
    folder = tmp_path_factory.mktemp("two_stage")
    tokenizer = TextTokenizer(tiny_folder)
    corpora.write_text(folder / "corpus.txt")
    corpora.write_text(folder / "general.txt", 4, seed=99)
    rows = [tiny.chat(f"word {n % 7}", f"reply {corpora.sentences(1, n)}") for n in range(40)]
    convert([folder / "general.txt"], folder / "general", tokenizer, Options(format="text", max_length=64))
    splits = ("train=0.7", "eval=0.3")
    convert([tiny.write_json(folder / "chats.json", rows)], folder / "chats", tokenizer, Options(splits=splits))
    common = f"max_steps: 6\nseed: 1\ncheckpoint:\n  every: 2\noptim:\n  lr: 0.01\n  warmup: 0\nmodel: {tiny_folder}\n"
    data = "data:\n  packs_per_step: 3\n"
    text = f"text:\n  files: [{folder}/corpus.txt]\n"
    (folder / "first.yaml").write_text(f"{common}{text}{data}  max_length: 64\n")
    chats = f"  train: {folder}/chats/train\n  eval: {folder}/chats/eval\n"
    (folder / "second.yaml").write_text(f"{common}{data}  max_length: 128\n{chats}tuning:\n  name: full\n")
    return folder


def words(place: Path, run: Path, *more: str) -> list[str]:
    fixed = {
        "first": place / "first.yaml",
        "second": place / "second.yaml",
        "general": place / "general",
        "output_dir": run,
    }
    return [*(word for key, value in fixed.items() for word in (f"--{key}", str(value))), *more]


def go(place: Path, run: Path, *more: str) -> dict:
    two_stage.main(config.parse(two_stage.Config, words(place, run, *more)))
    return json.loads((run / "manifest.json").read_text())


@pytest.fixture(scope="module")
def whole(place, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    return run, go(place, run)


def test_the_manifest_names_data_and_weights_that_went_in_and_came_out(place, whole, tiny_folder):
    run, manifest = whole
    stages = manifest["stages"]
    assert list(stages) == ["first", "second", "alone"]
    assert stages["first"]["in"] == {"model": str(tiny_folder), "sha256": weights_hash(tiny_folder)}
    assert stages["second"]["in"] == stages["first"]["out"]
    assert stages["alone"]["in"] == stages["first"]["in"]
    for name, stage in stages.items():
        assert stage["out"] == {"model": str(run / name / "model"), "sha256": weights_hash(run / name / "model")}
    assert len({stage["out"]["sha256"] for stage in stages.values()}) == 3
    assert list(stages["first"]["data"]) == [str(place / "corpus.txt")]
    facts = json.loads((place / "chats" / "train" / "nlpft.json").read_text())
    assert stages["second"]["data"][str(place / "chats" / "train")] == facts["fingerprint"]


def test_retention_and_gain_are_measured(place, whole):
    _, manifest = whole
    kept = manifest["retention"]
    assert list(kept) == ["before", "after first", "after second", "after alone"]
    assert kept["after first"] < kept["before"] == pytest.approx(6.0, abs=0.1)  # random weights: about log(400)
    (gain,) = manifest["gain"]
    assert gain["low"] < gain["difference"] < gain["high"]
    assert gain["difference"] == pytest.approx(gain["other"] - gain["base"])
    assert gain["n"] == store.read(place / "chats" / "eval").num_rows > 5
    assert (gain["difference"] < 0) == (gain["other_only"] > gain["base_only"])


def test_losses_are_pinned(whole):
    _, manifest = whole
    (gain,) = manifest["gain"]
    found = [*manifest["retention"].values(), gain["base"], gain["other"]]
    assert found == pytest.approx([5.99778, 4.63265, 4.00111, 4.62817, 4.62636, 4.08451], rel=1e-4)


def test_what_is_done_is_not_run_again(place, whole, tmp_path, monkeypatch, capsys):
    shutil.copytree(whole[0], tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    text = json.dumps(manifest).replace(str(whole[0]), str(tmp_path / "run"))
    (tmp_path / "run" / "manifest.json").write_text(text)
    before = (tmp_path / "run" / "first" / "model" / "model.safetensors").stat().st_mtime_ns
    again = go(place, tmp_path / "run", "--resume")
    assert capsys.readouterr().err.count("done before, not run again") == 3
    assert (tmp_path / "run" / "first" / "model" / "model.safetensors").stat().st_mtime_ns == before
    assert again["gain"] == manifest["gain"]


@pytest.mark.parametrize("stage", ["first", "second"])
def test_killed_in_a_stage_and_resumed_it_ends_in_the_same_weights(stage, place, whole, tmp_path):
    command = [sys.executable, two_stage.__file__, *words(place, tmp_path / "run")]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    metrics = tmp_path / "run" / stage / "metrics.jsonl"
    while child.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") >= 3):
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not (tmp_path / "run" / stage / "model").exists()
    again = go(place, tmp_path / "run", "--resume")
    expected = whole[1]["stages"]
    assert [again["stages"][s]["out"]["sha256"] for s in expected] == [s["out"]["sha256"] for s in expected.values()]
    assert again["retention"] == whole[1]["retention"]


def changed(place: Path, folder: Path, name: str, old: str, new: str) -> Path:
    """The settings of `place` in `folder`, with another value in NAME.yaml."""
    for file in ("first", "second"):
        shutil.copy(place / f"{file}.yaml", folder)
    text = (folder / f"{name}.yaml").read_text()
    assert old in text
    (folder / f"{name}.yaml").write_text(text.replace(old, new))
    return folder / f"{name}.yaml"


def test_a_stage_of_other_settings_is_not_reused_and_the_difference_is_named(place, whole, tmp_path):
    other = changed(place, tmp_path, "first", "lr: 0.01", "lr: 0.02")
    with pytest.raises(ConfigError, match=r"(?s)stage first was run otherwise.*optim\.lr: 0\.01 then, 0\.02 now"):
        go(place, whole[0], "--resume", "--first", str(other))


def test_a_stage_on_other_text_is_not_reused(place, whole, tmp_path):
    text = place / "corpus.txt"
    before = text.read_text()
    text.write_text(before + "\nMore.\n")
    try:
        with pytest.raises(ConfigError, match=r"(?s)stage first was run otherwise.*data .*corpus\.txt"):
            go(place, whole[0], "--resume")
    finally:
        text.write_text(before)


def test_weights_that_were_changed_since_are_not_used(place, whole):
    path = whole[0] / "first" / "model" / "model.safetensors"
    before = path.read_bytes()
    path.write_bytes(before[:-4] + b"\0\0\0\1")
    try:
        with pytest.raises(ConfigError, match="not the weights that stage first ended with"):
            go(place, whole[0], "--resume")
    finally:
        path.write_bytes(before)


def test_a_folder_in_use_is_refused(place, whole):
    with pytest.raises(RunExists, match="--resume"):
        go(place, whole[0])


def test_what_cannot_be_measured_is_refused_before_anything_runs(place, tmp_path):
    eval_line = next(line for line in (place / "second.yaml").read_text().splitlines(True) if "eval:" in line)
    file = changed(place, tmp_path, "second", eval_line, "")
    with pytest.raises(ConfigError, match=r"set data\.eval, on which the gain is measured"):
        go(place, tmp_path / "run", "--second", str(file))
    with pytest.raises(ConfigError, match="recipe pretrain: no recipe of a second stage"):
        go(place, tmp_path / "run", "--recipe", "pretrain")
    file = changed(place, tmp_path, "second", "seed: 1", "dtype: bfloat16")
    with pytest.raises(ConfigError, match="make them the same"):
        go(place, tmp_path / "run", "--second", str(file))
    with pytest.raises(DataError, match="nowhere"):
        go(place, tmp_path / "run", "--general", "nowhere")
    assert not (tmp_path / "run").exists()


def test_an_adapter_as_second_stage_is_measured_on_its_base(place, tmp_path):
    file = changed(place, tmp_path, "second", "name: full", "name: lora")
    manifest = go(place, tmp_path / "run", "--second", str(file), "--no_alone")
    kept = manifest["retention"]
    assert kept["after second"] != kept["after first"]
    assert "gain" not in manifest
