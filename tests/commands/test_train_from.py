"""`nlpft train --from RUN`: the same run again, or why not."""

import json

import processes
import pytest
import tiny

from nlpft import cli
from nlpft.commands import train


@pytest.fixture(scope="module", autouse=True)
def recipes_in_this_process():
    """What a command runs is told by its words; test_train.py has the processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "one_process", lambda: True)
        patch.setattr(train, "follow", processes.here)
        yield


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
