"""What a run shows and writes: time left, utilisation where the device is known, whole metrics whatever trackers do."""

import io
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import GeneralTracker
from accelerate.utils import DistributedType
from rich.console import Console

from nlpft.rundir import RunDir
from nlpft.training import log, tracking
from nlpft.training.log import RunLog
from nlpft.training.loop import Readback, StepReport


@pytest.fixture(autouse=True)
def fresh_state():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def report(step, tokens=1000, seconds=0.5, memory=0.0):
    sums = torch.tensor([2.0 * tokens, tokens, tokens, 1.0, 0.0, 2.0 * tokens], dtype=torch.float64)
    return StepReport(step, 1e-4, lambda: seconds, memory, Readback(sums))


def lines(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").open()]


def ran(path, steps, *, flops=0.0, max_steps=4, accelerator=None, clock=None):
    """What a run of `steps` says; its metrics lie in `path`. clock: seconds at which each of them comes."""
    path.mkdir(exist_ok=True)
    of = RunLog(accelerator or Accelerator(cpu=True), path / "metrics.jsonl", max_steps, flops=flops)
    said = io.StringIO()
    times = iter([0.0, *(clock or range(1, 99))])
    time = SimpleNamespace(now=next(times))
    of.console = Console(file=said, get_time=lambda: time.now)
    with of.running():
        for step in steps:
            time.now = next(times)
            of.step(step)
    return said.getvalue().splitlines()


@pytest.fixture
def of_989(monkeypatch):
    monkeypatch.setattr(log, "peak", lambda device: 989e12)


def test_utilisation_is_useful_operations_by_the_peak(tmp_path, of_989):
    said = ran(tmp_path, [report(1, tokens=10_000, seconds=1.0, memory=33.14)], flops=4.945e10)
    assert lines(tmp_path)[0]["utilisation"] == 0.5
    assert said == ["step 1/4  loss 2.000  lr 1.0e-04  10,000 tokens/s  50% of peak  33.1 GiB"]


def test_every_process_adds_a_peak(tmp_path, of_989):
    two = SimpleNamespace(is_main_process=True, num_processes=2, device=torch.device("cpu"), trackers=[])
    ran(tmp_path, [report(1, tokens=10_000, seconds=1.0)], flops=4.945e10, accelerator=two)
    assert lines(tmp_path)[0]["utilisation"] == 0.25


def test_a_cpu_has_neither_utilisation_nor_memory(tmp_path):
    said = ran(tmp_path, [report(1)], flops=1e9)
    assert "utilisation" not in lines(tmp_path)[0]
    assert said == ["step 1/4  loss 2.000  lr 1.0e-04  2,000 tokens/s"]


def test_the_time_left_goes_by_the_steps_after_the_first(tmp_path):
    """The first one compiles."""
    said = ran(tmp_path, [report(n) for n in (1, 2, 3, 4)], clock=[500, 560, 620, 680])
    assert [line.rpartition("  ")[2] for line in said] == [
        "2,000 tokens/s",
        "0:02:00 left",
        "0:01:00 left",
        "2,000 tokens/s",
    ]


def test_steps_of_minutes_have_a_time_left_too(tmp_path):
    said = ran(tmp_path, [report(n) for n in (1, 2, 3)], clock=[0, 240, 480])
    assert said[-1].endswith("0:04:00 left")


class Down(GeneralTracker):
    """Takes what it gets for a while, then cannot be reached."""

    name, requires_logging_directory = "down", False
    tracker = None

    def __init__(self, works=0):
        super().__init__()
        self.left = works

    def store_init_configuration(self, values):
        pass

    def log(self, values, step=None, **options):
        self.left -= 1
        if self.left < 0:
            raise ConnectionError("no route to host")

    def finish(self):
        raise AssertionError("was dropped")


@pytest.mark.parametrize("works", [0, 2])
def test_a_tracker_that_goes_down_costs_no_line_of_metrics(works, tmp_path):
    accelerator = Accelerator(cpu=True, log_with=Down(works))
    accelerator.init_trackers("nlpft")
    said = ran(tmp_path, [report(n) for n in (1, 2, 3, 4)], accelerator=accelerator)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4]
    assert sum("tracker down: ConnectionError: no route to host" in line for line in said) == 1


@pytest.mark.parametrize("name", ["tensorboard", "trackio"])
def test_a_tracker_gets_the_numbers_without_a_network(name, tmp_path, monkeypatch):
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported
    accelerator, said = Accelerator(cpu=True, log_with=[name], project_dir=tmp_path), []
    tracking.start(accelerator, {"optim.lr": "0.1"}, said.append)
    ran(tmp_path / "run", [report(1), report(2)], accelerator=accelerator)
    assert said == []
    read = {"tensorboard": from_tensorboard, "trackio": from_trackio}[name]
    assert read(tmp_path) == [(1, 2.0), (2, 2.0)]


def from_tensorboard(folder: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "nlpft")).Reload()
    return [(event.step, event.value) for event in events.Scalars("train/loss")]


def from_trackio(folder: Path):
    from trackio.sqlite_storage import SQLiteStorage

    [run] = SQLiteStorage.get_runs("nlpft")
    return [(line["step"], line["train/loss"]) for line in SQLiteStorage.get_logs("nlpft", run)]


def test_the_environment_says_what_changes_the_arithmetic(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/home/me/mine.py", "--seed", "3"])
    facts = {"train": {"folder": "data", "fingerprint": "ab"}, "eval": {"folder": "other"}}
    said = log.environment(Accelerator(cpu=True), 3, facts)
    assert (said["recipe"], said["command"][1:], said["seed"]) == ("/home/me/mine.py", ["--seed", "3"], 3)
    assert said["launch"] == {"device_type": "cpu", "distributed_type": "NO", "machines": 1, "mixed_precision": "no"}
    assert (said["processes"], said["threads"], said["devices"]) == (1, torch.get_num_threads(), 0)
    assert said["packages"]["torch"] == torch.__version__
    assert said["data"] == {"train": "ab", "eval": None}
    assert json.loads(json.dumps(said)) == said


def test_the_environment_counts_machines(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    accelerator = SimpleNamespace(
        device=torch.device("cpu"), num_processes=4, mixed_precision="no", distributed_type=DistributedType.MULTI_CPU
    )
    assert log.environment(accelerator, 0, {})["launch"]["machines"] == 2


def test_a_resumed_run_writes_its_lines_once(tmp_path):
    ran(tmp_path, [report(n) for n in (1, 2, 3)])
    run = RunDir(tmp_path)
    again = RunLog(Accelerator(cpu=True), run.metrics, 4, first_step=2)
    with again.running():
        again.step(report(3, tokens=7))
    assert [(line["step"], line["tokens"]) for line in lines(tmp_path)] == [(1, 1000), (2, 1000), (3, 7)]
