"""Processes that share a search: each on a device or on its share of the cores; they end when they are told to."""

import os
import signal
import threading
import time

import pytest

from nlpft.errors import ConfigError, Interrupted, TrainingError
from nlpft.search import workers


def leave(folder, failing):
    """Write down where this process computes; one process fails where it is told to."""
    (folder / str(os.getpid())).write_text(
        f"{os.environ.get('CUDA_VISIBLE_DEVICES')} {os.environ.get('OMP_NUM_THREADS')}"
    )
    if failing == "all" or (failing == "one" and len(list(folder.iterdir())) == 1):
        raise SystemExit(3)


def rest(folder):
    (folder / str(os.getpid())).write_text("")
    time.sleep(60)


def test_each_worker_has_a_device_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    workers.check(2)
    workers.together(leave, [tmp_path, "none"], 2)
    assert {file.read_text().split()[0] for file in tmp_path.iterdir()} == {"4", "7"}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,7"
    with pytest.raises(ConfigError, match=r"workers 3: .* of which there are 2"):
        workers.check(3)


def test_without_devices_workers_share_the_cores(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    workers.together(leave, [tmp_path, "none"], 2)
    threads = str(max(1, len(os.sched_getaffinity(0)) // 2))
    assert [file.read_text() for file in tmp_path.iterdir()] == [f" {threads}"] * 2


def test_one_worker_may_fail_but_not_all(tmp_path):
    workers.together(leave, [tmp_path, "one"], 2)
    with pytest.raises(TrainingError, match=r"none of the 2 workers .*\[3, 3\]"):
        workers.together(leave, [tmp_path, "all"], 2)


def test_workers_end_when_their_parent_is_told_to_stop(tmp_path):
    def stop():
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    with pytest.raises(Interrupted) as told:
        workers.together(rest, [tmp_path], 2)
    assert told.value.code == 128 + signal.SIGTERM
    for file in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.name), 0)
