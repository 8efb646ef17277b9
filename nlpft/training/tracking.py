"""Experiment trackers, through Accelerate. One that cannot be reached is named once and dropped: the run goes on."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

from accelerate import Accelerator

from nlpft.errors import ConfigError

Say = Callable[[str], None]


def check(names: Sequence[str]) -> None:
    """Raise ConfigError where a tracker is not installed: Accelerate would go on without it and not say so."""
    for name in names:
        if find_spec(name) is None:
            raise ConfigError(f'trackers: {name} is not installed; pip install "nlpft[{name}]"')


def start(accelerator: Accelerator, settings: dict[str, str], say: Say) -> None:
    """Begin a run in each tracker that `accelerator` was made with."""
    wanted, begun = list(accelerator.log_with), []
    for tracker in wanted:
        accelerator.log_with = [tracker]
        if _tried(str(tracker), lambda: accelerator.init_trackers("nlpft", config=settings), say):
            begun += accelerator.trackers
    accelerator.log_with, accelerator.trackers = wanted, begun


def log(accelerator: Accelerator, numbers: dict[str, float], step: int, say: Say) -> None:
    """`numbers` of `step` to each tracker that is still there."""
    _keep(accelerator, lambda tracker: tracker.log(numbers, step=step), say)


def finish(accelerator: Accelerator, say: Say) -> None:
    """End the run in each of them."""
    _keep(accelerator, lambda tracker: tracker.finish(), say)
    accelerator.trackers = []


def _keep(accelerator: Accelerator, call: Callable[[Any], Any], say: Say) -> None:
    """Keep those trackers for which `call` works."""
    if accelerator.is_main_process:
        accelerator.trackers = [t for t in accelerator.trackers if _tried(t.name, lambda t=t: call(t), say)]  # type: ignore


def _tried(name: str, call: Callable[[], Any], say: Say) -> bool:
    try:
        call()
    except Exception as error:  # noqa: BLE001  # each tracker has errors of its own, and none is worth a run
        say(f"tracker {name}: {type(error).__name__}: {error}; goes on without it, metrics.jsonl has everything")
        return False
    return True
