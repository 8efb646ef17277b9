"""Memory or disk that is used up ends an evaluation, whose answers are kept: the question at hand is not at fault."""

import contextlib
from collections.abc import Iterator

import torch
from accelerate.utils.memory import should_reduce_batch_size

from nlpft.errors import Interrupted
from nlpft.files import FULL


def remedy(error: Exception) -> str:
    """What to do about it, where `error` says that memory or disk is used up; '' for other errors."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or should_reduce_batch_size(error):
        return "out of memory; lower --batch_size (held-out answers) or --harness.batch_size, or free what others hold"
    if isinstance(error, OSError) and error.errno in FULL:
        return f"no space left on the disk{f' for {error.filename}' if error.filename else ''}; free some"
    return ""


@contextlib.contextmanager
def ends_the_run() -> Iterator[None]:
    """Raise Interrupted, with what to do, where memory or disk is used up within it."""
    try:
        yield
    except (MemoryError, OSError, RuntimeError) as error:
        if not (what := remedy(error)):
            raise
        raise Interrupted(f"{what}. What has been answered is kept, and the same call goes on with it") from error
