"""Several processes that work on one search: each on one of the GPUs that are there, or on its share of the cores."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from nlpft.errors import ConfigError, Interrupted, TrainingError

GRACE = 10.0  # seconds that a worker has to end in


def devices() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name.strip()]
    import torch  # 3 s that a worker does not need before it works

    return [str(number) for number in range(torch.cuda.device_count())]


def check(count: int) -> None:
    """Raise ConfigError for a number of workers that there are no devices for, or where a launcher has started several processes.

    A run of a search takes one process.
    """
    from accelerate import PartialState  # 3 s, as above

    if PartialState().num_processes > 1:
        raise ConfigError("a run takes one process: nlpft train --num_processes 1 RECIPE --workers N, to use several")
    there = devices()
    if count < 1 or (there and count > len(there)):
        most = f", of which there are {len(there)}" if there else ""
        raise ConfigError(f"workers {count}: at least 1; on GPUs one for each{most}")


def together(work: Callable[..., None], given: Sequence[Any], count: int) -> None:
    """Call `work(*given)` in `count` processes, and wait for all of them.

    work: a function of a module, given: what can be pickled. Where this process is told to stop, they are too. That some come to
    their end is enough, as what they share lies on disk; raises TrainingError where none did.
    """
    there, cores = devices(), len(os.sched_getaffinity(0))
    started = []
    for number in range(count):
        own = {"CUDA_VISIBLE_DEVICES": there[number]} if there else {"OMP_NUM_THREADS": str(max(1, cores // count))}
        worker = get_context("spawn").Process(target=work, args=tuple(given), daemon=True)
        with _environment(own):
            worker.start()
        started.append(worker)
    with _stopped_with(started):
        for worker in started:
            worker.join()
    codes = [worker.exitcode for worker in started]
    if all(codes):
        raise TrainingError(
            f"none of the {count} workers came to its end (exit codes {codes}); what they said stands above"
        )


@contextmanager
def _environment(more: dict[str, str]) -> Iterator[None]:
    """Within it the environment has `more`: what is started there has it."""
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


@contextmanager
def _stopped_with(started: Sequence[Any]) -> Iterator[None]:
    """Within it a SIGTERM or Ctrl-C ends the processes `started`, and raises Interrupted."""

    def stop(number: int, frame: object) -> None:
        for worker in started:
            worker.terminate()
        for worker in started:
            worker.join(GRACE)
            worker.kill()
            worker.join()
        raise Interrupted("told to stop; what is scored is kept, and the same call goes on with it", 128 + number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
