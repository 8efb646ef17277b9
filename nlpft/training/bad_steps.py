"""What follows a step that could not be taken: no learnt token, a loss or gradient that is not finite, no memory."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

from accelerate.utils.memory import clear_device_cache

from nlpft.errors import ConfigError, RunExists, TrainingError, some
from nlpft.training.log import SHOWN
from nlpft.training.loop import OneLate, OutOfMemory, StepReport, enough_memory


@dataclass(frozen=True)
class BadStepConfig:
    policy: Literal["skip", "stop", "roll_back"] = "skip"
    """What follows a step without a learnt token, or with a loss or gradient that is not finite. Such a step changes no
    weight and is reported with its rows. skip: go on; stop: end the run; roll_back: go on from the newest checkpoint's
    weights with the rows that come next (Chowdhery et al. 2022, PaLM); for a step without a learnt token, skip."""
    most: int = 10
    """So many such steps one after another end the run."""


def check(config: BadStepConfig) -> None:
    """Raise ConfigError for settings that mean nothing."""
    if config.most < 1:
        raise ConfigError(f"bad_steps.most {config.most}: at least 1; bad_steps.policy stop ends the run at the first")


class BadSteps:
    """Reads every report. `sources(step, micro_batches)`: rows' places; `tell(step, problem, rows, message)` writes it down."""

    def __init__(
        self,
        config: BadStepConfig,
        sources: Callable[[int, Sequence[int]], list[str]],
        tell: Callable[[int, str, list[str], str], None],
        roll_back: Callable[[], str],
    ) -> None:
        self.config, self.sources, self.tell, self.roll_back = config, sources, tell, roll_back
        self.in_a_row = 0

    def __call__(self, report: StepReport) -> None:
        """Raises TrainingError where the run is to end."""
        if not report.problem:
            self.in_a_row = 0
            return
        self.in_a_row += 1
        rows = self.sources(report.step, report.suspects)
        what = f"step {report.step}: {report.problem}; rows {some(rows, SHOWN)}"
        self.tell(report.step, report.problem, rows, f"{what}; no weight was changed")
        if self.config.policy == "stop":
            raise TrainingError(
                f"{what}. Look at them (nlpft inspect --source), or set bad_steps.policy skip and --resume"
            )
        if self.in_a_row >= self.config.most:
            raise TrainingError(
                f"{what}. {self.in_a_row} bad steps came one after another (bad_steps.most); begin a run with a lower optim.lr, "
                "or --resume with bad_steps.policy roll_back"
            )
        if self.config.policy == "roll_back" and report.targets:
            self.tell(report.step, "rolled back", [], f"step {report.step}: rolled back to {self.roll_back()}")


@contextmanager
def rescued(
    read: OneLate, save: Callable[[int], None], sources: Callable[[int, Sequence[int]], list[str]], processes: int
) -> Iterator[None]:
    """Within it a lack of memory ends the run with a message, and saved where weights are whole: by TrainingError.

    read, save: as for any step. Of several processes only some may lack memory, and none can save alone.
    """
    try:
        with enough_memory_between(read):
            yield
    except OutOfMemory as error:
        clear_device_cache(garbage_collection=True)
        saved = ""
        if processes == 1 and error.whole:
            read.flush()
            with suppress(RunExists):  # it was due anyway
                save(error.whole)
            saved = f"; step {error.whole} is saved"
        raise TrainingError(f"{_short_of_memory(error, sources)}{saved}; {_remedy(error)}, and --resume") from None


@contextmanager
def enough_memory_between(read: OneLate) -> Iterator[None]:
    """Raise OutOfMemory where memory is lacking for what a recipe does behind the step that `read` was told of last."""
    with enough_memory(lambda: OutOfMemory(read.told, None, read.told)):
        yield


def _short_of_memory(error: OutOfMemory, sources: Callable[[int, Sequence[int]], list[str]]) -> str:
    """Where memory was lacking."""
    if error.number is not None:
        return f"step {error.step}: out of memory; rows {', '.join(sources(error.step, [error.number])[:SHOWN])}"
    return f"step {error.step}: out of memory " + (
        "in what followed it, an evaluation or a checkpoint"
        if error.whole
        else "in the optimiser; nothing is saved, it may have changed some of the weights"
    )


def _remedy(error: OutOfMemory) -> str:
    batch = "lower data.packs_per_micro_batch, or tokens_per_micro_batch of heads (the result stays the same)"
    if error.number is not None:
        return f"{batch} or compute.keep_activations"
    return batch if error.whole else "take an optim.name that keeps less, or train fewer weights (tuning.name lora)"
