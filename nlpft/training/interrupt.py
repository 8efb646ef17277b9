"""Ctrl-C and SIGTERM (which cluster schedulers send before they kill) end a run between two steps, saved."""

import signal
import time
from types import FrameType
from typing import Any

AT_ONCE = 1.0  # seconds in which a second Ctrl-C is the first, passed on by a launcher


class Interrupts:
    """Within it the first SIGINT or SIGTERM is remembered and changes nothing else; a later SIGINT raises KeyboardInterrupt."""

    number = 0  # of the signal that came
    when = 0.0

    def __enter__(self) -> "Interrupts":
        self.before = {n: signal.signal(n, self._came) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _came(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.number and time.monotonic() - self.when > AT_ONCE:
            raise KeyboardInterrupt
        if not self.number:
            self.number, self.when = number, time.monotonic()

    def received(self) -> bool:
        """Whether this process has been told to stop."""
        return bool(self.number)

    @property
    def code(self) -> int:
        """The exit code that says so; another process's signal counts as SIGTERM."""
        return 128 + (self.number or signal.SIGTERM)
