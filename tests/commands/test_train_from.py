"""`nlpft train --from RUN`: the same run again, or why not."""

import json

import processes
import pytest
import tiny

from nlpft import cli
from nlpft.commands import _again, train
from nlpft.errors import ConfigError
from nlpft.recipes_dir import recipes_dir


@pytest.fixture(scope="module", autouse=True)
def recipes_in_this_process():
    """What a command runs is told by its words; test_train.py has the processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "one_process", lambda: True)
        patch.setattr(train, "follow", lambda command: processes.here([command[0], *command[recipe_at(command) :]]))
        yield


def recipe_at(command):
    """Place of the recipe behind the launcher and its options, if it is there."""
    return next(i for i, word in enumerate(command) if word.endswith("sft.py"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("again")
    model = tiny.save_model(folder / "tiny")
    rows = [tiny.chat("word " * (1 + n % 9), f"reply {n} " * (1 + n % 7)) for n in range(20)]
    tiny.write_json(folder / "rows.json", rows)
    convert(folder, model)
    fixed = {"model": model, "data.train": folder / "data", "data.max_length": 128, "max_steps": 3, "tuning.dropout": 0.2,
             "output_dir": folder / "run"}  # fmt: skip
    words = [str(word) for key, value in fixed.items() for word in (f"--{key}", value)]
    assert cli.main(["train", "sft", *words]) == 0
    return folder / "run"


def convert(folder, model, *more):
    words = [str(folder / "rows.json"), "-o", str(folder / "data"), "--model", str(model), *more]
    assert cli.main(["convert", *words]) == 0


def numbers(run):
    return [(m["step"], m["loss"], m["grad_norm"]) for m in map(json.loads, (run / "metrics.jsonl").open())]


def test_a_repeated_run_gives_the_same_numbers_and_names_changed_versions(run, capfd):
    environment = json.loads((run / "environment.json").read_text())
    assert environment["recipe"] == "sft"
    environment["packages"]["numpy"] = "0.1"
    (run / "environment.json").write_text(json.dumps(environment))
    assert cli.main(["train", "--from", str(run)]) == 0
    assert "numpy: 0.1 then, " in capfd.readouterr().err
    assert numbers(run.with_name("run-again")) == numbers(run)


def test_further_settings_win(run):
    other = run.with_name("other")
    assert cli.main(["train", "--from", str(run), "--max_steps", "1", "--output_dir", str(other)]) == 0
    assert len(numbers(other)) == 1


def test_other_data_under_the_same_name_is_refused(run, capsys):
    convert(run.parent, run.with_name("tiny"), "--max_length", "200", "--overwrite")
    assert cli.main(["train", "--from", str(run), "--output_dir", str(run.with_name("never"))]) == 2
    assert "data: converted anew since that run" in capsys.readouterr().err


def test_what_is_no_run_is_refused(tmp_path, capsys):
    assert cli.main(["train", "--from", str(tmp_path)]) == 2
    assert "--from takes the folder of a run" in capsys.readouterr().err


SOFTWARE = {"python": "3.11", "packages": {}, "commit": None, "changed": None}
LAUNCH = {"device_type": "cuda", "distributed_type": "MULTI_GPU", "machines": 1, "mixed_precision": "bf16"}


@pytest.fixture
def noted(tmp_path, monkeypatch):
    """The folder of a run that notes what a test wants it to; its data is in place."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "nlpft.json").write_text('{"fingerprint": "ab"}')
    monkeypatch.setattr(_again, "software", lambda: SOFTWARE)

    def note(fingerprint="ab", **environment):
        run = tmp_path / "run"
        run.mkdir()
        before = {**SOFTWARE, "recipe": "sft", "processes": 2, "threads": 3, "launch": LAUNCH, **environment}
        (run / "environment.json").write_text(json.dumps(before))
        (run / "data.json").write_text(json.dumps({"train": {"folder": "data", "fingerprint": fingerprint}}))
        return "run"

    return note


AS_IT_WAS = ["--num_processes", "2", "--num_cpu_threads_per_process", "3", "--mixed_precision", "bf16"]


def test_a_run_is_launched_as_it_was_unless_launch_options_say_otherwise(noted):
    run = noted()
    settings = ["--config", "run/config.yaml", "--no_resume", "--output_dir", "run-again"]
    assert train.split(["--from", run]) == (AS_IT_WAS, recipes_dir() / "sft.py", settings)
    assert train.split(["--cpu", f"--from={run}", "--seed", "1"]) == (
        ["--cpu"],
        recipes_dir() / "sft.py",
        [*settings, "--seed", "1"],
    )


def test_a_run_on_the_cpu_stays_there(noted):
    cpu = {**LAUNCH, "device_type": "cpu", "distributed_type": "NO", "mixed_precision": "no"}
    options, *_ = train.split(["--from", noted(launch=cpu, processes=1)])
    assert options == ["--cpu", "--num_processes", "1", "--num_cpu_threads_per_process", "3", "--mixed_precision", "no"]


@pytest.mark.parametrize(
    ("launch", "said"),
    [({"distributed_type": "FSDP"}, "ran under FSDP, machines: 1"), ({"machines": 2}, "MULTI_GPU, machines: 2")],
)
def test_sharded_weights_and_several_machines_want_their_launch_file(launch, said, noted):
    run = noted(launch={**LAUNCH, **launch})
    with pytest.raises(ConfigError, match=f"{said}; give its launch file again: nlpft train --config_file FILE"):
        train.split(["--from", run])
    assert train.split(["--config_file", "fsdp2.yaml", "--from", run])[0] == ["--config_file", "fsdp2.yaml"]


def test_data_that_is_gone_is_refused_unless_other_data_is_named(noted, tmp_path):
    run = noted()
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="data: not here any more"):
        train.split(["--from", run])
    assert train.split(["--from", run, "--data.train", "elsewhere"])[2][-1] == "elsewhere"


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"recipe": "/gone/mine.py"}, "/gone/mine.py: the run's recipe is gone"),
        ({"fingerprint": "cd"}, "data: converted anew since that run"),
    ],
)
def test_what_cannot_be_repeated_is_refused(environment, said, noted):
    with pytest.raises(ConfigError, match=said):
        train.split(["--from", noted(**environment)])


def test_a_run_that_noted_too_little_is_refused_with_what_to_do(noted, tmp_path):
    run = noted()
    (tmp_path / run / "environment.json").write_text('{"packages": {}, "processes": 1, "threads": 1}')
    with pytest.raises(ConfigError, match="did not note recipe, launch; begin a run like it by nlpft train RECIPE"):
        train.split(["--from", run])


def test_from_wants_a_folder():
    with pytest.raises(ConfigError, match="--from needs the folder of a run"):
        train.split(["--from"])
