"""Whoever started a run from outside may look at its evaluations as they come, and end it: a search that prunes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Watch = Callable[[int, int, float], None]

_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watched(by: Watch) -> Iterator[None]:
    """Within it `by` is told each evaluation of a run: its step, the run's last step, and what the best step has least of.

    What `by` raises ends the run where it stands.
    """
    before = _WATCH.set(by)
    try:
        yield
    finally:
        _WATCH.reset(before)


def tell(step: int, whole: int, low: float) -> None:
    """Tell an evaluation to who watches."""
    watch = _WATCH.get()
    if watch is not None:
        watch(step, whole, low)
