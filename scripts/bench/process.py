"""Whole processes, measured from the outside: seconds, seconds of computing, and the memory of the whole process tree."""

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

INTERVAL = 0.02  # seconds between two looks at a process tree
# PSS counts a page that n processes share as 1/n in each of them; without it forked workers count the same page again.
METER = "PSS" if Path("/proc/self/smaps_rollup").is_file() else "RSS"


class Memory(NamedTuple):
    """MB (10^6 bytes) of a process tree."""

    whole: float  # as METER counts, files that are mapped into memory included
    own: float  # without those files, which the system takes back when it needs the room; with RSS the same as `whole`


class Run(NamedTuple):
    """How one process went."""

    seconds: float  # from its start to its end
    computing: float  # seconds of all its processes on a processor: what other programs' load changes least
    peak: Memory  # zeros where memory was not watched
    output: str  # what it printed


def run(command: Sequence[str], log: Path, env: dict[str, str], watch: bool = False) -> Run:
    """Run `command`; what it says beside its output goes to `log`.

    `watch` looks at its memory all the time, which takes time: seconds and memory are better measured in two runs.
    Raises RuntimeError with the log's last lines where it fails.
    """
    with log.open("w+") as errors, log.with_suffix(".out").open("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=errors, env=env)
        peak = _watch(process.pid) if watch else Memory(0, 0)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    said = log.with_suffix(".out").read_text()
    if process.returncode:
        raise RuntimeError("\n".join([f"exit code {process.returncode}", *log.read_text().splitlines()[-5:]]))
    return Run(seconds, usage.ru_utime + usage.ru_stime, peak, said)


def _watch(pid: int) -> Memory:
    """The highest memory of the tree below `pid` until it ends; its exit status is left for the caller to collect."""
    root, peak = psutil.Process(pid), Memory(0, 0)
    while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        now = tree_memory(root)
        peak = Memory(max(peak.whole, now.whole), max(peak.own, now.own))
        time.sleep(INTERVAL)
    return peak


def tree_memory(root: psutil.Process) -> Memory:
    """What `root` and all its descendants hold now."""
    try:
        parts = [_memory(process) for process in (root, *root.children(recursive=True))]
    except psutil.NoSuchProcess:
        parts = []
    return Memory(sum(part.whole for part in parts), sum(part.own for part in parts))


def _memory(process: psutil.Process) -> Memory:
    """Of one process; nothing where it has just ended."""
    try:
        if METER == "RSS":
            size = process.memory_info().rss / 1e6
            return Memory(size, size)
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]
    except (OSError, psutil.Error):
        return Memory(0, 0)
    kilobytes = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
    return Memory(kilobytes["Pss"] * 1.024e-3, kilobytes.get("Pss_Anon", kilobytes["Pss"]) * 1.024e-3)
