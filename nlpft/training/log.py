"""What a run leaves for people and programs: progress bar, metrics.jsonl, trackers, environment.json."""

import contextlib
import json
import math
import platform
import subprocess
import sys
from collections.abc import Iterator
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
from nlpft.recipes_dir import recipes_dir
from nlpft.rundir import RunDir
from nlpft.training import tracking
from nlpft.training.loop import StepReport
from nlpft.versions import version

SHOWN = 8  # rows that a message names
PACKAGES = ("nlpft", "torch", "transformers", "peft", "accelerate", "tokenizers", "numpy", "pyarrow")


class RunLog:
    """One run's records; on processes other than the main one it does nothing."""

    def __init__(self, accelerator: Accelerator, path: Path, max_steps: int, first_step: int = 0) -> None:
        self.accelerator = accelerator
        self.main = accelerator.is_main_process
        self.console = Console(stderr=True, quiet=not self.main)
        self.max_steps, self.first_step, self.path = max_steps, first_step, path
        self.file: TextIO | None = None  # open while `running`

    @classmethod
    def start(cls, accelerator: Accelerator, run: RunDir, cfg: Any, max_steps: int, first: int) -> Self:
        """Write down what is about to run (`cfg`: a recipe's settings), and on which data; `first` steps of it are done."""
        if accelerator.is_main_process:
            data = {name: store.facts(folder) for name in ("train", "eval") if (folder := getattr(cfg.data, name))}
            run.start(config.dump(cfg), environment(cfg.seed, accelerator.num_processes), data)
        accelerator.wait_for_everyone()
        log = cls(accelerator, run.metrics, max_steps, first)
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
        self.progress = Progress(*columns, console=self.console, disable=not self.main or not self.console.is_terminal)
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
        self.write("train", report)
        speed = report["tokens"] / report["seconds"]
        state = f"loss {report['loss']:.3f}  lr {report['lr']:.1e}  {speed:,.0f} tokens/s"
        self.progress.update(self.task, completed=report["step"], state=state)
        every = max(1, self.max_steps // 10)
        if not self.console.is_terminal and (report["step"] % every == 0 or report["step"] == self.max_steps):
            self.say(f"step {report['step']}/{self.max_steps}  {state}")

    def evaluation(self, step: int, loss: float, targets: int, best: bool) -> None:
        """A measurement of the held-out loss, in nats per target."""
        self.write("eval", {"step": step, "loss": loss, "targets": targets, "best": best})
        self.say(f"step {step}: held-out loss {loss:.4f} nats/token" + (", the best so far" if best else ""))

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


def keep_until(path: Path, step: int) -> None:
    """Drop the lines of metrics.jsonl after `step`: a resumed run writes them again."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        write_text(path, "".join(kept))


def environment(seed: int, processes: int = 1) -> dict[str, Any]:
    """Versions, device, processes and seed: what it takes, with the configuration and the data, to repeat a run."""
    cuda = torch.cuda.is_available()
    return {
        "recipe": recipe(),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine(),
        "devices": torch.cuda.device_count() if cuda else 0,
        "processes": processes,
        "threads": torch.get_num_threads(),
        "packages": {name: version(name) for name in PACKAGES},
        "commit": commit(),
        "seed": seed,
    }


def recipe() -> str:
    """Name of the recipe that runs, or its file where it is no recipe of nlpft's."""
    file = Path(sys.argv[0]).resolve()
    return file.stem if file.parent == recipes_dir().resolve() else str(file)


def commit() -> str | None:
    """The commit of the folder that nlpft runs from, if it is a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
