"""Several processes of one test, as `accelerate launch` would start them on a CPU; and a script that needs none of its own."""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

PRELOAD = [  # once for all children; each would need ten seconds for them
    "accelerate",
    "torch.distributed",
    "transformers.models.llama.modeling_llama",
    "peft",
    "lm_eval.evaluator",
    "nlpft.data.loader",
    "nlpft.evaluation.run",
    "nlpft.evaluation.language_model",
    "nlpft.training.fit",
    "nlpft.training.preflight",
]


def run(function: Callable[..., Any], processes: int, *args: Any) -> list[Any]:
    """What `function(*args)` returns in each of `processes` that know of each other through gloo."""
    from torch.distributed import (
        TCPStore,
    )  # held here, as torchrun does: a port that is only looked up may be taken by then

    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    context = _context()
    answers = context.Queue()
    children = [
        context.Process(target=_child, args=(answers, function, args, rank, processes, store.port))
        for rank in range(processes)
    ]
    for child in children:
        child.start()
    found = {}
    try:
        while len(found) < processes:
            rank, answer = answers.get(timeout=300)
            if isinstance(answer, BaseException):  # the others may wait for this one for good
                raise answer
            found[rank] = answer
        for child in children:
            child.join(10)
    finally:
        for child in children:
            child.kill()
    return [found[rank] for rank in range(processes)]


def start(command: list[str], stderr: Path) -> BaseProcess:
    """`[python, SCRIPT, *words]` as a process of its own, but without the seconds of its imports."""
    child = _context().Process(target=_script, args=(command, stderr))
    child.start()
    return child


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


def _child(
    answers: Any, function: Callable[..., Any], args: tuple[Any, ...], rank: int, processes: int, port: int
) -> None:
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    place = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": 1}
    held = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": 0}  # the store is the test's
    os.environ.update({name: str(value) for name, value in {**names, **place, **held}.items()})
    try:
        import torch

        torch.set_num_threads(1)
        no_survey()
        answers.put((rank, function(*args)))
    except Exception as error:  # noqa: BLE001  # the test raises it
        answers.put((rank, error))


def _script(command: list[str], stderr: Path) -> None:
    with stderr.open("w") as file:
        os.dup2(file.fileno(), 2)
    sys.exit(here(command))


def no_survey() -> None:
    """lm-eval asks pip, git and the compiler about this machine for every task (2 s); nlpft keeps nothing of it."""
    from torch.utils import collect_env

    collect_env.get_pretty_env_info = str


def here(command: list[str]) -> int:
    """Exit code of `[python, SCRIPT, *words]`, run in this process as that script: for what is not about processes."""
    before = sys.argv
    sys.argv = [str(word) for word in command[1:]]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = before
    return 0
