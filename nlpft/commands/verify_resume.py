"""Prove on your own configuration that a killed and resumed run ends as if it had never stopped."""

import contextlib
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from nlpft.commands import train
from nlpft.errors import ConfigError, TrainingError

USAGE = """\
nlpft verify-resume [LAUNCH OPTIONS] RECIPE [SETTINGS]

Runs 8 steps of your run twice in a temporary folder (below $TMPDIR): once as they are, once killed by SIGKILL in between and
resumed. Then compares every trained weight, the optimiser's state, and the numbers of every step, bit for bit.
Several processes may add up in another order: there, the rows of each step must be the same, and losses within 1e-5.
Exit code 0: equal; 1: they differ, and by how much.

Example:
  nlpft verify-resume sft --config my.yaml --tuning.dropout 0.1"""

CLOSE = 1e-5  # relative: float32 sums in another order
STEPS, EVERY, KILL_AFTER = 8, 2, 3  # of a run; between checkpoints; the step whose numbers are written before the kill


def run(words: list[str]) -> int:
    """Returns 0 where the resumed run equals the other, else 1. words: as typed behind the command."""
    if not words or {"-h", "--help"} & set(words):
        print(USAGE)
        return 0 if words else 2
    options, recipe, settings = train.split(words)
    with tempfile.TemporaryDirectory(prefix="nlpft-verify-resume-") as folder:
        whole, parts, again = (Path(folder, name) for name in ("whole", "killed", "again"))

        def command(run: Path, resume: bool = False) -> list[str]:
            ours = {"output_dir": run, "max_steps": STEPS, "patience": 0, "checkpoint.every": EVERY}
            own = [word for key, value in ours.items() for word in (f"--{key}", str(value))]
            flags = ["--trackers", "--resume" if resume else "--no_resume"]
            return [sys.executable, "-m", "nlpft", "train", *options, str(recipe), *settings, *own, *flags]

        finish(command(whole), whole)
        kill(command(parts), parts)
        newest = max(parts.glob("checkpoints/step-*"), default=None)
        print(
            f"killed after step {metrics(parts)[-1]['step']}; goes on from {newest.name if newest else 'the beginning'}"
        )
        finish(command(parts, resume=True), parts)
        found = list(differences(whole, parts))
        if not found:
            print(f"equal, bit for bit: {compared(whole)}")
            return 0
        processes = json.loads((whole / "environment.json").read_text(encoding="utf-8"))["processes"]
        if processes > 1 and (off := apart(whole, parts)) < CLOSE:
            print(
                f"the same rows in the same steps, losses within {off:.1g}: {processes} processes add up in another order"
            )
            return 0
        print("the resumed run is not the other:", *found[:10], sep="\n  ")
        finish(command(again), again)
        if list(differences(whole, again)):
            print(
                "two runs that nothing stops differ too: this configuration is not deterministic (on a GPU, see compute)"
            )
        return 1


def finish(command: list[str], run: Path) -> None:
    """Run `command` to its end. Raises TrainingError where it fails, with the end of what it wrote."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise TrainingError(
            f"the run to be verified fails by itself (exit code {done.returncode}):\n{done.stderr[-3000:]}"
        )
    if not metrics(run) or metrics(run)[-1]["step"] < STEPS:
        raise ConfigError(f"the run ended before step {STEPS}; nothing can be verified on so short a one")


def kill(command: list[str], run: Path) -> None:
    """Start `command` and kill all its processes, without a word, once `run` has taken its first steps."""
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        try:
            while child.poll() is None and max((m["step"] for m in metrics(run)), default=0) < KILL_AFTER:
                time.sleep(0.001)
        finally:
            code = child.poll()
            if code is None:
                kill_family(child.pid)
            child.wait()
    if code is not None:
        raise TrainingError(f"the run ended (exit code {code}) before it could be killed; call again")


def kill_family(pid: int) -> None:
    """End a process and all that it started by SIGKILL: torchrun's have sessions of their own, which no group reaches."""
    launcher = psutil.Process(pid)
    family = [launcher, *launcher.children(recursive=True)]
    for process in family:  # the launcher first: it would end the others with a word
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family[1:], timeout=30)


def metrics(run: Path) -> list[dict[str, Any]]:
    """Whole lines of the run's metrics.jsonl."""
    path = run / "metrics.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def differences(one: Path, other: Path) -> Iterator[str]:
    """What differs between two runs: numbers of each step (but times and memory), then tensors of the last checkpoint."""
    lines = [
        [{k: v for k, v in m.items() if k not in ("seconds", "memory_gib")} for m in metrics(r)] for r in (one, other)
    ]
    for a, b in zip(*lines, strict=False):
        if a != b:
            yield f"step {a['step']}: " + ", ".join(f"{k} {a.get(k)} and {b.get(k)}" for k in a if a.get(k) != b.get(k))
    if len(lines[0]) != len(lines[1]):
        yield f"{len(lines[0])} and {len(lines[1])} lines of metrics.jsonl"
    first, second = state(one), state(other)
    if first.keys() != second.keys():
        yield f"only one has {', '.join(sorted(first.keys() ^ second.keys())[:3])}"
    for name in sorted(first.keys() & second.keys()):
        if not first[name].equal(second[name]):
            yield f"{name}: by up to {(first[name].double() - second[name].double()).abs().max():.3g}"


def apart(one: Path, other: Path) -> float:
    """How far the losses of two runs are apart, relatively; infinite where a step had other rows."""
    pairs = list(zip(metrics(one), metrics(other), strict=False))
    if any(a.get(key) != b.get(key) for a, b in pairs for key in ("kind", "step", "targets", "tokens", "lr")):
        return math.inf
    return max(abs(a["loss"] - b["loss"]) / abs(a["loss"]) for a, b in pairs)


def state(run: Path) -> dict[str, Any]:
    """Tensors of the run's last checkpoint by name: trained weights, and the optimiser's."""
    from nlpft.training import checkpoint  # torch, which the runs have loaded by then

    return checkpoint.read(max(run.glob("checkpoints/step-*")))


def compared(run: Path) -> str:
    tensors = state(run)
    moments = sum(name.startswith("optimizer.") for name in tensors)
    return f"{len(tensors) - moments} trained weights, {moments} of the optimiser, the numbers of {STEPS} steps"
