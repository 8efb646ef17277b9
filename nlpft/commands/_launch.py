"""`accelerate launch`, but the processes asked for are started, and its exit code and words are the recipe's own.

python -m nlpft.commands._launch [LAUNCH OPTIONS] FILE [SETTINGS], as `nlpft train` runs it.
"""

import argparse
import logging
import os
import signal
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import torch
from accelerate.commands import launch
from accelerate.utils.launch import prepare_simple_launcher_cmd_env
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from nlpft import cli
from nlpft.errors import ConfigError

TAIL = 4_000  # characters shown of what a process wrote before it failed


def main(words: list[str]) -> int:
    """Launch as `words` say. Returns the exit code: the recipe's, or 128 + the signal that ended it.

    Raises ConfigError for launch options that do not exist or contradict each other.
    """
    _quiet()
    args = parse(words)
    asked_threads = args.num_cpu_threads_per_process or "OMP_NUM_THREADS" in os.environ
    try:
        args, *_ = launch._validate_launch_command(args)
        if args.use_deepspeed and find_spec("deepspeed") is None:
            raise ValueError('DeepSpeed is not installed: pip install "nlpft[deepspeed]"')
        spread(args)
        if not asked_threads and not torch.accelerator.is_available():
            # accelerate's default is one thread a process, also where the CPU is all there is to compute on
            args.num_cpu_threads_per_process = max(1, torch.get_num_threads() // max(1, args.num_processes or 1))
        if not several(args):
            become(args)
    except (ValueError, OSError) as error:
        raise ConfigError(f"accelerate launch: {error}") from error
    with tempfile.TemporaryDirectory(prefix="nlpft-") as logs:
        return run(args, Path(logs))


def parse(words: list[str]) -> argparse.Namespace:
    """accelerate's own arguments. Raises ConfigError for those it does not know."""
    parser = launch.launch_command_parser()

    def error(message: str) -> NoReturn:  # argparse's would print a page of usage first
        raise ConfigError(f"accelerate launch: {message}; see accelerate launch --help")

    parser.error = error
    return parser.parse_args(words)


def several(args: argparse.Namespace) -> bool:
    """Whether more than one process is to be started on this machine, or a launcher of its own is needed."""
    return bool(args.multi_gpu or args.use_fsdp or args.use_deepspeed or args.use_megatron_lm or args.tpu)


def spread(args: argparse.Namespace) -> None:
    """Have torchrun start the processes that were asked for.

    accelerate starts only one, silently, for `--num_processes 2` on a machine with less than two GPUs or with `--cpu`: there it
    expects MPI to do it. And without ACCELERATE_USE_CPU each process would train alone where there is no GPU.
    """
    if args.multi_gpu and args.cpu:  # a configuration file for GPUs, on a machine without one
        os.environ["ACCELERATE_USE_CPU"], args.cpu = "true", False
    if several(args) or (args.num_processes or 0) < 2 or args.mpirun_hostfile:
        return
    if args.cpu or args.use_cpu or not torch.accelerator.is_available():
        os.environ["ACCELERATE_USE_CPU"] = "true"
    args.multi_gpu, args.cpu = True, False
    if (args.num_machines or 1) == 1 and args.main_process_port is None:
        args.main_process_port = 0  # any free one: two runs may share a machine


def become(args: argparse.Namespace) -> NoReturn:
    """Turn this process into the recipe's: accelerate would wait for it with a traceback, and let no signal through."""
    command, env = prepare_simple_launcher_cmd_env(args)
    os.execvpe(command[0], command, env)


def run(args: argparse.Namespace, logs: Path) -> int:
    """Let accelerate start the processes; the first one's output is shown, the others' (repetitions) go to `logs`."""
    processes = max(1, (args.num_processes or 1) // (args.num_machines or 1))
    if args.tee == "0" and not args.log_dir and processes > 1:  # else the user wants to see more
        args.log_dir = str(logs)
        args.redirects = ",".join(f"{rank}:3" for rank in range(1, processes))
    try:
        launch.launch_command(args)
    except ChildFailedError as error:
        return failed(error, processes, logs)
    except SignalException as error:
        return 128 + int(error.sigval)
    except subprocess.CalledProcessError as error:  # DeepSpeed's launcher
        return error.returncode
    return 0


def failed(error: ChildFailedError, processes: int, logs: Path) -> int:
    """Say what the user has not yet seen of why the run ended; returns the exit code."""
    rank, first = error.get_first_failure()
    shown = error.failures.get(0)
    if not (shown and shown.exitcode == first.exitcode):
        print(f"process {rank} of {processes} failed first", *wrote(first, logs), sep="\n", file=sys.stderr)
    if first.exitcode < 0:
        name = signal.Signals(-first.exitcode).name
        print(f"process {rank} was ended by {name}" + " (out of memory?)" * (name == "SIGKILL"), file=sys.stderr)
    return first.exitcode if first.exitcode > 0 else 128 - first.exitcode


def wrote(failure: ProcessFailure, logs: Path) -> list[str]:
    """The end of what a process wrote to stderr, if it went to `logs` (.../attempt_0/LOCAL_RANK/stderr.log)."""
    files = sorted(logs.glob(f"**/{failure.local_rank}/stderr.log"))
    text = files[-1].read_text(encoding="utf-8", errors="replace").strip() if files else ""
    return [text[-TAIL:]] if text else []


def _quiet() -> None:
    """Silence this process, not the recipe's: accelerate lists the options not given, torchrun the processes it ends."""
    logging.disable(logging.WARNING)
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)


if __name__ == "__main__":
    sys.exit(cli.guarded(lambda: main(sys.argv[1:])))
