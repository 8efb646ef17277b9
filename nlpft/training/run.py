"""A run's steps under care: reports read, checkpoints saved, signals heeded; between the steps a recipe evaluates.

run = begin(...)
with attended(run) as steps:
    for step in steps:
        if step.measured:
            run.judge(step, loss, targets)
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn

from nlpft.data.examples import Examples
from nlpft.data.loader import PackedData, Share
from nlpft.errors import Interrupted
from nlpft.files import write_text
from nlpft.models.load import autocast
from nlpft.models.sizes import by_block
from nlpft.rundir import RunDir
from nlpft.training import checkpoint, distributed, flops, method
from nlpft.training.bad_steps import BadSteps, rescued
from nlpft.training.interrupt import Interrupts
from nlpft.training.log import RunLog
from nlpft.training.loop import Count, OneLate, StepLoss, StepSettings, is_due, train_steps
from nlpft.training.settings import RunConfig
from nlpft.training.stopping import Best
from nlpft.training.watching import tell


@dataclass(frozen=True)
class Run:
    """A run that has begun, or goes on."""

    accelerator: Accelerator
    folder: RunDir
    cfg: Any  # a recipe's settings: RunConfig, with data, tuning and objective
    model: nn.Module
    optimizer: Any
    data: PackedData | Examples
    score: tuple[StepLoss, Count]
    max_steps: int
    settings: StepSettings
    best: Best
    log: RunLog

    @property
    def share(self) -> Share:
        """Which part of every step is this process's."""
        return share(self.accelerator)

    def judge(self, step: int, loss: float, targets: int, low: float | None = None, **more: float) -> None:
        """Note an evaluation behind `step`: nats per target, the number of targets, and `more` measures by their names.

        low: what the best step has least of, where that is not the loss.
        """
        low = loss if low is None else low
        self.best.update(step, low)
        self.log.evaluation(step, loss, targets, self.best.step == step, **more)
        tell(step, self.max_steps, low)

    def save(self, step: int) -> None:
        state = {"step": step, "best": self.best.state()}
        checkpoint.save(
            self.accelerator, self.folder.checkpoints, self.model, self.optimizer, state, self.cfg.checkpoint.keep
        )

    def take_best(self) -> None:
        """Put the best weights in place, where there were evaluations; else the last ones stay."""
        if self.best.step is None and self.best.waited:
            self.log.say(
                f"none of {self.best.waited} evaluations gave a number: there is no best step, the last weights stay"
            )
        if self.best.step:
            best = self.folder.checkpoints / f"step-{self.best.step:08d}"
            checkpoint.load(self.accelerator, best, self.accelerator.unwrap_model(self.model), self.optimizer)

    def end(self) -> Best:
        """Say what came of it; returns the best evaluation."""
        self.log.say(
            f"saved {self.folder.model}" + (f", the weights of step {self.best.step}" if self.best.step else "")
        )
        self.accelerator.end_training()
        return self.best


@dataclass(frozen=True)
class Step:
    """An optimiser step that was taken."""

    number: int  # from 1
    measured: bool  # whether an evaluation is due


def accelerator_for(cfg: RunConfig) -> Accelerator:
    """Accelerate's view of the processes, as the launcher and `cfg` say; seeds what is drawn from here on."""
    trackers = list(cfg.trackers) or None
    accelerator = Accelerator(mixed_precision=autocast(cfg.dtype), log_with=trackers, project_dir=cfg.output_dir)
    distributed.load_whole(accelerator)
    set_seed(cfg.seed)
    return accelerator


def share(accelerator: Accelerator) -> Share:
    """Which part of every step is this process's."""
    return Share(accelerator.process_index, accelerator.num_processes)


def begin(
    accelerator: Accelerator,
    folder: RunDir,
    cfg: Any,
    model: nn.Module,
    optimizer: Any,
    data: PackedData | Examples,
    score: tuple[StepLoss, Count],
    max_steps: int,
    newest: Path | None,
) -> Run:
    """Write down what is about to run, or put in place what checkpoint `newest` has of it."""
    best, first = Best(cfg.patience), 0
    inner = accelerator.unwrap_model(model)
    if newest:
        state = checkpoint.load(accelerator, newest, model, optimizer)
        best, first = Best(cfg.patience, **state["best"]), state["step"]
    settings = method.step_settings(inner, cfg, max_steps, first)
    log = RunLog.start(accelerator, folder, cfg, max_steps, first, flops.per_token(model, data.lengths))
    if accelerator.is_main_process:
        write_text(folder.parameters, json.dumps(by_block(inner), indent=2) + "\n")
    log.say(method.described(optimizer, cfg.optim.lr))
    return Run(accelerator, folder, cfg, model, optimizer, data, score, max_steps, settings, best, log)


@contextmanager
def attended(run: Run) -> Iterator[Iterator[Step]]:
    """Within it, the steps that are left. What is read or saved behind a step comes after the body of the loop.

    Raises Interrupted where the run was told to stop, and TrainingError where it cannot go on.
    """
    sources = partial(run.data.sources, run.cfg.data, run.cfg.seed, run.share.processes)
    place = run.accelerator, run.folder.checkpoints, run.model, run.optimizer
    judge = BadSteps(run.cfg.bad_steps, sources, run.log.problem, partial(checkpoint.roll_back, *place))
    read = OneLate(run.log.step, judge)
    with run.log.running(), Interrupts() as signals, rescued(read, run.save, sources, run.share.processes):
        yield _steps(run, read, signals)


def _steps(run: Run, read: OneLate, signals: Interrupts) -> Iterator[Step]:
    cfg, best, first = run.cfg, run.best, run.settings.first_step
    left = 0 if best.stop() else run.max_steps - first  # a run may have been killed after its last checkpoint
    batches = islice(run.data.steps(cfg.data, cfg.seed, run.share, first), left)
    for report in train_steps(
        run.accelerator, run.model, run.optimizer, batches, *run.score, run.settings, signals.received
    ):
        step, last = report.step, report.step == run.max_steps
        measured, due = last or is_due(step, cfg.eval_every), is_due(step, cfg.checkpoint.every)
        read(report, now=measured or due)
        yield Step(step, measured)
        if last or due or best.stop() or best.step == step or read.interrupted:
            run.save(step)
        if read.interrupted and not last:
            raise Interrupted(f"told to stop; step {step} is saved, go on from it by --resume", signals.code)
        if best.stop():
            run.log.say(f"stopped at step {step}: no better evaluation in {cfg.patience} of them (patience)")
            return
