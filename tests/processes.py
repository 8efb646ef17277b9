"""Several processes of one test, as `accelerate launch` would start them on a CPU."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

PRELOAD = [
    "accelerate",
    "torch.distributed",
    "transformers.models.llama.modeling_llama",
    "nlpft.training.loop",
    "nlpft.data.loader",
]


def run(function: Callable[..., Any], processes: int, *args: Any) -> list[Any]:
    """What `function(*args)` returns in each of `processes` that know of each other through gloo."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    answers = context.Queue()
    children = [
        context.Process(target=_child, args=(answers, function, args, rank, processes, port))
        for rank in range(processes)
    ]
    for child in children:
        child.start()
    try:
        found = dict(answers.get(timeout=120) for _ in children)
    finally:
        for child in children:
            child.join(10)
            child.kill()
    for answer in found.values():
        if isinstance(answer, BaseException):
            raise answer
    return [found[rank] for rank in range(processes)]


def _child(
    answers: Any, function: Callable[..., Any], args: tuple[Any, ...], rank: int, processes: int, port: int
) -> None:
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    place = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": 1}
    os.environ.update({name: str(value) for name, value in {**names, **place}.items()})
    try:
        import torch

        torch.set_num_threads(1)
        answers.put((rank, function(*args)))
    except Exception as error:  # noqa: BLE001  # the test raises it
        answers.put((rank, error))
