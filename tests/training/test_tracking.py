"""Trackers get every number; one that is down is named once, and costs nothing else."""

from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from nlpft.errors import ConfigError
from nlpft.training import tracking


class Tracker:
    """Notes what it gets; fails in the calls named."""

    def __init__(self, name, *fails):
        self.name, self.fails, self.got = name, fails, []

    def log(self, numbers, step):
        if "log" in self.fails:
            raise ConnectionError("no route to host")
        self.got.append((step, numbers))

    def finish(self):
        if "finish" in self.fails:
            raise TimeoutError("late")
        self.got.append("finished")


def accelerator(*trackers, fails=()):
    made = SimpleNamespace(is_main_process=True, trackers=[], log_with=[t.name for t in trackers])

    def init_trackers(project, config):
        made.trackers = []
        (name,) = made.log_with
        if name in fails:
            raise ConnectionError("refused")
        made.trackers = [t for t in trackers if t.name == name]

    made.init_trackers = init_trackers
    return made


def test_one_that_cannot_begin_leaves_the_others():
    here, gone, said = Tracker("here"), Tracker("gone"), []
    made = accelerator(gone, here, fails=["gone"])
    tracking.start(made, {}, said.append)
    assert made.trackers == [here]
    assert said == ["tracker gone: ConnectionError: refused; goes on without it, metrics.jsonl has everything"]


def test_one_that_goes_down_is_named_once_and_dropped():
    here, down, said = Tracker("here"), Tracker("down", "log"), []
    made = accelerator(here, down)
    tracking.start(made, {}, said.append)
    for step in (1, 2, 3):
        tracking.log(made, {"loss": 0.5}, step, said.append)
    tracking.finish(made, said.append)
    assert here.got == [(1, {"loss": 0.5}), (2, {"loss": 0.5}), (3, {"loss": 0.5}), "finished"]
    assert len(said) == 1
    assert "tracker down: ConnectionError: no route to host" in said[0]
    assert made.trackers == []


def test_one_that_fails_at_the_end_is_said():
    said = []
    made = accelerator(Tracker("late", "finish"))
    tracking.start(made, {}, said.append)
    tracking.finish(made, said.append)
    assert "tracker late: TimeoutError" in said[0]


def test_what_is_not_installed_is_refused_with_what_to_install():
    if find_spec("wandb"):
        pytest.skip("wandb is installed")
    with pytest.raises(ConfigError, match=r'wandb is not installed; pip install "nlpft\[wandb\]"'):
        tracking.check(["wandb"])
