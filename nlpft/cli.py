"""The `nlpft` command: `nlpft COMMAND ...` runs nlpft/commands/COMMAND.py, which is imported only then."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

from nlpft import plugins
from nlpft.errors import UserError


class Terminated(SystemExit):
    """SIGTERM came. No Exception, which a task that fails may be, and no KeyboardInterrupt, which ends an answer of a chat."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 done but with a bad outcome, 2 the user can mend it, 128 + a signal."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        from nlpft import __version__

        print(__version__)
        return 0
    try:
        with terminable():
            return guarded(lambda: run(words[0], words[1:]))
    except Terminated as end:
        print("terminated", file=sys.stderr)
        return int(end.code or 0)


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Within it SIGTERM raises Terminated, so that what is half written goes away as it does after Ctrl-C.

    Not below a launcher: a process that waits for the others in a collective would hear of it only when they answer.
    """
    free = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and threading.current_thread() is threading.main_thread()
    if not free or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        yield
        return
    owner = os.getpid()

    def end(number: int, frame: object) -> None:
        if os.getpid() != owner:  # a forked child has nothing to clean up
            os._exit(128 + number)
        raise Terminated(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def run(command: str, words: list[str]) -> int:
    """Import `command`, parse its settings from `words`, run it."""
    from nlpft import config  # tyro takes longer to import than `nlpft --help` may last

    module = plugins.load("commands", command.replace("-", "_"))
    if not hasattr(module, "Config"):  # passes its words on
        return module.run(words) or 0
    return module.run(config.parse(module.Config, words, prog=f"nlpft {command}")) or 0


def guarded(call) -> int:
    """`call()`'s exit code (0 if it returns none), with errors that are the user's to mend as one message. Recipes use it too."""
    try:
        code = call()
        return code if isinstance(code, int) else 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    except BrokenPipeError:  # `nlpft inspect ... | head`
        sys.stderr.close()
        return 0
    except OSError as error:  # no permission, no space: the user's to mend, and it names its file
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def usage() -> str:
    """The commands and what each does, from the first lines of their files."""
    lines = [
        f"  {name.replace('_', '-'):<13} {plugins.summary('commands', name)}" for name in plugins.names("commands")
    ]
    return "\n".join(
        ["nlpft: from an instruction corpus to an evaluated adapter", "", "nlpft COMMAND [--help] ...", "", *lines]
    )


if __name__ == "__main__":
    sys.exit(main())
