"""One function over many tasks in several processes: results in the order of the tasks, few tasks on their way at a time."""

import contextlib
import ctypes
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import pyarrow as pa

from nlpft.data import engines
from nlpft.errors import Interrupted

Job = TypeVar("Job")
Result = TypeVar("Result")

AHEAD = 8  # tasks on their way for each process: whoever takes the results may be busy with one for a while
PR_SET_PDEATHSIG = 1  # of Linux's prctl

_function: Callable[..., Any] | None = None


def spread(
    make: Callable[[Job], Callable[..., Result]], job: Job, tasks: Iterable[tuple], processes: int
) -> Iterator[Result]:
    """`make(job)(*task)` for each of `tasks`; every process makes its own function. With one process, here.

    Raises what the function raises, UserError where a process is ended from outside.
    """
    if processes == 1:
        function = make(job)
        for task in tasks:
            yield function(*task)
        return
    engines.one_thread()
    waiting: list[Future] = []
    with ProcessPoolExecutor(processes, engines.process_context(), _start, (make, job, os.getpid())) as pool:
        try:
            for task in tasks:
                waiting.append(pool.submit(_call, *task))
                while len(waiting) > AHEAD * processes:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        except BrokenProcessPool:
            raise Interrupted(
                "a process that converts was ended from outside, probably for lack of memory; what is finished is kept: "
                "call again with --workers 1"
            ) from None
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


@contextlib.contextmanager
def beside(make: Callable[[Job], Callable[..., Result]], job: Job, processes: int) -> Iterator[Callable[..., Future]]:
    """What hands a task to `make(job)` in a process of its own, which others do not wait for; with one process, here."""
    if processes == 1:
        yield _AtOnce(make(job))
        return
    with ProcessPoolExecutor(1, engines.process_context(), _start, (make, job, os.getpid())) as pool:
        yield lambda *task: pool.submit(_call, *task)


class _AtOnce:
    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *task: Any) -> Future:
        done: Future = Future()
        try:
            done.set_result(self._function(*task))
        except Exception as error:  # noqa: BLE001 - whoever asks for the result gets it
            done.set_exception(error)
        return done


def _start(make: Callable[[Job], Callable[..., Any]], job: Job, parent: int) -> None:
    global _function
    _end_with(parent)
    pa.set_memory_pool(pa.system_memory_pool())  # the default one keeps some 40 MB that it once needed, in each process
    gc.disable()  # what a task leaves behind is freed by counting references
    _function = make(job)


def _end_with(parent: int) -> None:
    """Let this process end when its parent does, however that happens: nothing would ever ask it for another task."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _call(*task: Any) -> Any:
    assert _function is not None
    return _function(*task)
