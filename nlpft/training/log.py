"""What a run leaves for people and programs: progress bar, metrics.jsonl, trackers, environment.json."""

import contextlib
import json
import math
import os
import platform
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TextIO

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nlpft import config
from nlpft.data import store
from nlpft.data.loader import PackedData
from nlpft.errors import some
from nlpft.files import write_text
from nlpft.rundir import RunDir
from nlpft.training import tracking
from nlpft.training.environment import recipe, software
from nlpft.training.flops import peak
from nlpft.training.loop import StepReport

SHOWN = 8  # rows that a message names
LINES = 10  # of progress that a run writes where there is no terminal
PERIOD = 600.0  # seconds, over which the time left is estimated: a step may take minutes


class RunLog:
    """One run's records; on processes other than the main one it does nothing."""

    def __init__(
        self, accelerator: Accelerator, path: Path, max_steps: int, first_step: int = 0, flops: float = 0.0
    ) -> None:
        self.accelerator = accelerator
        most = peak(accelerator.device) if flops else None
        self.full = most * accelerator.num_processes / flops if most else None  # tokens/s at full utilisation
        self.main = accelerator.is_main_process
        self.console = Console(stderr=True, quiet=not self.main)
        self.max_steps, self.first_step, self.path = max_steps, first_step, path
        self.file: TextIO | None = None  # open while `running`

    @classmethod
    def start(
        cls, accelerator: Accelerator, run: RunDir, cfg: Any, max_steps: int, first: int, flops: float = 0.0
    ) -> Self:
        """Write down what is about to run (`cfg`: a recipe's settings), and on which data; `first` steps of it are done.

        flops: useful operations on a token (flops.per_token), of which utilisation is reckoned; 0: not known.
        """
        if accelerator.is_main_process:
            data = {name: store.facts(folder) for name in ("train", "eval") if (folder := getattr(cfg.data, name))}
            run.start(config.dump(cfg), environment(accelerator, cfg.seed, data), data)
        accelerator.wait_for_everyone()
        log = cls(accelerator, run.metrics, max_steps, first, flops)
        tracking.start(accelerator, config.flat_text(cfg), log.say)
        return log

    @contextlib.contextmanager
    def running(self) -> Iterator["RunLog"]:
        """The progress bar and the open file."""
        columns = [
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
        ]
        hidden = not self.main or not self.console.is_terminal
        self.progress = Progress(*columns, console=self.console, disable=hidden, speed_estimate_period=PERIOD)
        self.task = self.progress.add_task("train", total=self.max_steps, completed=self.first_step, state="")
        if self.main:
            keep_until(self.path, self.first_step)
        with contextlib.ExitStack() as stack:
            self.file = stack.enter_context(self.path.open("a", encoding="utf-8")) if self.main else None
            stack.callback(tracking.finish, self.accelerator, self.say)
            stack.enter_context(self.progress)
            yield self

    def write(self, kind: str, values: dict[str, Any]) -> None:
        """One line of metrics.jsonl, and the same numbers to the trackers."""
        if self.file is None:
            return
        values = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        self.file.write(json.dumps({"kind": kind, **values}) + "\n")  # JSON knows no NaN
        self.file.flush()
        numbers = {f"{kind}/{k}": v for k, v in values.items() if k != "step" and isinstance(v, (int, float))}
        tracking.log(self.accelerator, numbers, values["step"], self.say)

    def step(self, of: StepReport) -> None:
        """A training step: the bar moves; without a terminal a line now and then."""
        report = of.numbers()
        speed = report["tokens"] / report["seconds"]
        if self.full:
            report["utilisation"] = round(speed / self.full, 4)
        self.write("train", report)
        state = described(report, speed)
        self.progress.update(self.task, completed=report["step"], state=state)
        every = max(1, self.max_steps // LINES)
        if not self.console.is_terminal and (report["step"] % every == 0 or report["step"] == self.max_steps):
            self.say(f"step {report['step']}/{self.max_steps}  {state}{self.left()}")

    def left(self) -> str:
        """Time to the last step, once that can be told; the bar has its own column for it."""
        seconds = self.progress.tasks[self.task].time_remaining
        return f"  {timedelta(seconds=round(seconds))} left" if seconds else ""

    def evaluation(self, step: int, loss: float, targets: int, best: bool, **more: float) -> None:
        """A measurement of the held-out loss, in nats per target, and of `more` by their names."""
        self.write("eval", {"step": step, "loss": loss, "targets": targets, "best": best, **more})
        measures = "".join(f", {name} {value:.4f}" for name, value in more.items())
        self.say(f"step {step}: held-out loss {loss:.4f} nats/target{measures}" + (", the best so far" if best else ""))

    def left_out(self, *datasets: PackedData | None) -> None:
        """Rows of `datasets` that no step will see, because they are longer than a pack."""
        for data in filter(None, datasets):
            rows = data.places(data.left_out[:SHOWN].tolist())
            if rows:
                named = some(rows, SHOWN, len(data.left_out))
                self.say(f"{data.folder}: left out, longer than {data.max_length} tokens: {named}")

    def problem(self, step: int, problem: str, rows: list[str], message: str) -> None:
        """A step that was not taken, and the rows it was made of."""
        self.write("problem", {"step": step, "problem": problem, "rows": rows})
        self.say(message)

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)


def described(report: dict[str, Any], speed: float) -> str:
    """A training step in a few words; speed: tokens/s. Utilisation and memory stand there where they are known."""
    parts = [f"loss {report['loss']:.3f}", f"lr {report['lr']:.1e}", f"{speed:,.0f} tokens/s"]
    if "utilisation" in report:
        parts.append(f"{report['utilisation']:.0%} of peak")
    if report["memory_gib"]:
        parts.append(f"{report['memory_gib']:.1f} GiB")
    return "  ".join(parts)


def keep_until(path: Path, step: int) -> None:
    """Drop the lines of metrics.jsonl after `step`: a resumed run writes them again."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        write_text(path, "".join(kept))


def environment(accelerator: Accelerator, seed: int, data: dict[str, Any]) -> dict[str, Any]:
    """What it takes, with the configuration, to repeat a run: recipe, software, devices, seed, and what changes arithmetic.

    data: facts of each dataset by its name, of which the fingerprints are taken.
    """
    cuda = accelerator.device.type == "cuda"
    return {
        "recipe": recipe(),
        "command": sys.argv,
        **software(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(accelerator.device) if cuda else processor(),
        "devices": torch.cuda.device_count() if cuda else 0,
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "launch": {
            "device_type": accelerator.device.type,
            "distributed_type": accelerator.distributed_type.value,
            "machines": accelerator.num_processes // int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes)),
            "mixed_precision": accelerator.mixed_precision,
        },
        "seed": seed,
        "data": {name: facts.get("fingerprint") for name, facts in data.items()},
    }


def processor() -> str:
    return platform.processor() or platform.machine()
