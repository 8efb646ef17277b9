"""One function over many tasks in several processes: results in the order of the tasks, few tasks on their way at a time."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import gc
import pyarrow as pa

from nlpft.data import engines
from nlpft.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")

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
    with ProcessPoolExecutor(processes, engines.process_context(), _start, (make, job)) as pool:
        try:
            for task in tasks:
                waiting.append(pool.submit(_call, *task))
                while len(waiting) > 2 * processes:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        except BrokenProcessPool:
            raise UserError(
                "a process that converts was ended from outside, probably for lack of memory; what is finished is kept: "
                "call again with --workers 1"
            ) from None
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _start(make: Callable[[Job], Callable[..., Any]], job: Job) -> None:
    global _function
    pa.set_memory_pool(pa.system_memory_pool())  # the default one keeps some 40 MB that it once needed, in each process
    gc.disable()  # what a task leaves behind is freed by counting references
    _function = make(job)


def _call(*task: Any) -> Any:
    assert _function is not None
    return _function(*task)
