"""`nlpft train` is `accelerate launch` of a recipe: the processes asked for, one message, the recipe's own exit code."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import processes
import pytest
import tiny

from nlpft import cli
from nlpft.commands import train
from nlpft.errors import ConfigError
from nlpft.recipes_dir import recipes_dir

SFT = recipes_dir() / "sft.py"
TWO = ["--cpu", "--num_processes", "2"]

# A recipe that needs no torch. RANK is set by torchrun alone.
SCRIPT = """
import os, sys, time
from pathlib import Path
from nlpft import cli
from nlpft.errors import ConfigError

rank, what = os.environ.get("RANK", "-"), sys.argv[1]

def main():
    Path(f"started-{rank}").write_text(str(os.getpid()))
    if what == "user":
        raise ConfigError("optim.lr 0: must be more")
    if what == "wait" or (what.startswith("only1") and rank != "1"):
        time.sleep(60)
    if what == "only1 user":
        raise ConfigError("only process 1 has seen this")
    if what in ("crash", "only1 crash"):
        raise RuntimeError(f"bug in {rank}")
    if what == "killed":
        os.kill(os.getpid(), 9)

sys.exit(cli.guarded(main))
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no_saved_accelerate_config"))
    (tmp_path / "recipe.py").write_text(SCRIPT)
    return tmp_path / "recipe.py"


@pytest.fixture
def launcher(monkeypatch):
    """The launcher's module, in this process."""
    from nlpft.commands import _launch

    monkeypatch.setattr(_launch.logging, "disable", lambda level: None)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "false")  # so that it is put back
    return _launch


def run(capfd, *words) -> tuple[int, str]:
    """Exit code and stderr of `nlpft train words`."""
    code = cli.main(["train", *map(str, words)])
    return code, capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "options", "recipe", "settings"),
    [
        (["sft"], [], SFT, []),
        (["sft", "--optim.lr", "1e-4"], [], SFT, ["--optim.lr", "1e-4"]),
        ([*TWO, "sft", "--resume"], TWO, SFT, ["--resume"]),
        (["--num_processes", "2", "sft", "sft"], ["--num_processes", "2"], SFT, ["sft"]),
    ],
)
def test_what_stands_before_the_recipe_is_the_launchers(words, options, recipe, settings):
    assert train.split(words) == (options, recipe, settings)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stf"], "unknown recipe 'stf'; did you mean 'sft'"),
        (["stf", "--output_dir", "sft"], "unknown recipe 'stf'"),
        ([*TWO, "stf", "--optim.lr", "1"], "unknown recipe 'stf'; did you mean 'sft'"),
        (TWO, "known: "),
        (["--cpu"], "no recipe named"),
        (["my.yaml"], "nlpft train RECIPE --config my.yaml"),
        (["gone.py"], "gone.py: no such file"),
    ],
)
def test_an_unknown_recipe_is_refused_with_a_suggestion(words, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        train.split(words)


def test_help_shows_usage_and_a_recipes_help_its_settings(capsys, monkeypatch):
    assert cli.main(["train", "--help"]) == 0
    assert "nlpft train [LAUNCH OPTIONS] RECIPE [SETTINGS]" in capsys.readouterr().out
    commands = []
    monkeypatch.setattr(train, "follow", commands.append)
    assert cli.main(["train", *TWO, "sft", "--help"]) == 0
    assert commands == [[sys.executable, str(SFT), "--help"]]


def test_two_processes_train_as_one_does(tmp_path, tiny_folder, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    rows = [tiny.chat("word " * (1 + n % 9), f"reply {n} " * (1 + n % 7)) for n in range(20)]
    file = tiny.write_json(tmp_path / "rows.json", rows)
    assert cli.main(["convert", str(file), "-o", str(tmp_path / "data"), "--model", str(tiny_folder)]) == 0
    fixed = {"model": tiny_folder, "data.train": tmp_path / "data", "data.max_length": 128, "data.packs_per_step": 3,
             "max_steps": 3}  # fmt: skip
    settings = [str(word) for key, value in fixed.items() for word in (f"--{key}", value)]
    one, two = tmp_path / "one", tmp_path / "two"
    assert processes.here([sys.executable, str(SFT), *settings, "--output_dir", str(one)]) == 0
    assert cli.main(["train", *TWO, "sft", *settings, "--output_dir", str(two)]) == 0
    told = [json.loads((run / "environment.json").read_text())["processes"] for run in (one, two)]
    assert told == [1, 2]
    losses, others = ([json.loads(line)["loss"] for line in (run / "metrics.jsonl").open()] for run in (one, two))
    assert len(losses) == 3
    assert losses == pytest.approx(others, rel=1e-4)


@pytest.mark.parametrize("options", [[], ["--cpu"], TWO], ids=" ".join)
def test_a_mistake_of_the_users_is_one_message_and_exit_code_2(script, options, capfd):
    code, said = run(capfd, *options, script, "user")
    assert code == 2
    assert said.startswith("error: optim.lr 0: must be more")
    assert "Traceback" not in said
    assert len(said.splitlines()) <= 3  # two processes may both have failed before the launcher ended the other


def test_what_only_another_process_has_said_is_shown(script, capfd):
    code, said = run(capfd, *TWO, script, "only1 user")
    assert (code, said) == (2, "process 1 of 2 failed first\nerror: only process 1 has seen this\n")
    code, said = run(capfd, *TWO, script, "only1 crash")
    assert code == 1
    assert said.endswith("RuntimeError: bug in 1\n")


def test_a_crash_shows_one_traceback_the_recipes(script, capfd):
    code, said = run(capfd, *TWO, script, "crash")
    assert code == 1
    assert said.count("Traceback") == 1
    assert "accelerate" not in said


def test_a_process_that_was_killed_is_named(script, capfd):
    code, said = run(capfd, *TWO, script, "killed")
    assert code == 128 + signal.SIGKILL
    assert "was ended by SIGKILL" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--num_procs", "2"], "--num_procs"),
        (["--num_processes", "two"], "invalid int value: 'two'"),
        (["--config_file", "gone.yaml"], "`gone.yaml` does not exist"),
        (["--multi_gpu", "--num_processes", "1"], "at least 2 processes"),
        (["--use_deepspeed", "--num_processes", "2"], 'DeepSpeed is not installed: pip install "nlpft[deepspeed]"'),
    ],
)
def test_wrong_launch_options_are_one_message(script, launcher, options, said, monkeypatch):
    monkeypatch.setattr(launcher, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="^accelerate launch: .*" + re.escape(said)):
        launcher.main([*options, str(script), "user"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
@pytest.mark.parametrize("options", [[], TWO], ids=" ".join)
def test_signals_reach_the_recipe(script, options, number):
    command = [sys.executable, "-m", "nlpft.cli", "train", *options, str(script), "wait"]
    started = [script.with_name(f"started-{rank}") for rank in ("01" if options else "-")]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    until(lambda: all(path.exists() and path.read_text() for path in started))
    process.send_signal(number)
    assert process.wait(timeout=30) == (130 if number == signal.SIGINT else 143)
    for path in started:
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)


def until(true, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    assert true()


@pytest.mark.parametrize("options", [["--num_processes", "2"], TWO, ["--config_file", "two.yaml"]], ids=" ".join)
def test_several_processes_on_a_cpu_are_started_and_share_its_threads(script, launcher, options, monkeypatch):
    """accelerate itself would start one, and say nothing."""
    script.with_name("two.yaml").write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_CPU\nnum_processes: 2\nnum_machines: 1\nuse_cpu: true\n"
        "mixed_precision: 'no'\nmachine_rank: 0\nmain_training_function: main\ndebug: false\nrdzv_backend: static\n"
        "same_network: true\n"
    )
    launched = []
    monkeypatch.setattr(launcher.torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(launcher.torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(launcher.launch, "multi_gpu_launcher", launched.append)
    assert launcher.main([*options, str(script), "user"]) == 0
    [args] = launched
    assert (args.num_processes, args.num_cpu_threads_per_process) == (2, 4)
    assert os.environ["ACCELERATE_USE_CPU"] == "true"


def test_the_recipe_is_run_at_once_only_where_the_launcher_would_do_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr(train, "ACCELERATORS", ())
    monkeypatch.setattr(train.sys, "platform", "linux")
    assert train.one_process()
    monkeypatch.setattr(train, "ACCELERATORS", ("null",))  # /dev/null stands for a GPU
    assert not train.one_process()
    monkeypatch.setattr(train, "ACCELERATORS", ())
    (tmp_path / "accelerate").mkdir()
    (tmp_path / "accelerate" / "default_config.yaml").touch()
    assert not train.one_process()


def test_the_command_itself_loads_no_torch():
    code = "import sys, nlpft.commands.train; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
