"""What can go wrong through no fault of ours. The message says what, where and what to do; the exit code is 2."""

from collections.abc import Collection


class UserError(ValueError):
    """Base of all errors that are shown to the user as one message without a traceback."""

    code = 2  # with which the command ends


class ConfigError(UserError):
    """A setting that does not exist, has the wrong type, or contradicts another."""


class DataError(UserError):
    """A file or row that cannot be used; the message begins with its place (`file:row`)."""


class ModelError(UserError):
    """A model or adapter that is not there, or does not fit what is asked of it."""


class RunExists(UserError):
    """The run folder already holds a run."""


class TrainingError(UserError):
    """A run that cannot usefully go on."""


class Interrupted(UserError):
    """Work that was ended from outside; what is finished is kept, and the same call goes on with it. `code`: 128 + the signal."""

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


def some(names: Collection[str], most: int, total: int | None = None) -> str:
    """The first `most` of `names` for a message, and how many more there are; total: where `names` are not all of them."""
    more = (len(names) if total is None else total) - most
    return ", ".join(list(names)[:most]) + (f" and {more} more" if more > 0 else "")


class RowRejected(ValueError):
    """Why one row cannot be used. Counted by `reason`, so the reason is a fixed phrase; `detail` may vary by row."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
