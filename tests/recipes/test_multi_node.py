"""recipes/accelerate/multi_node.yaml: two groups of processes, meeting at torchrun's rendezvous, train as one process."""

import json
import os
import socket
import subprocess
import sys

import pytest
import sft
import tiny

from nlpft import config
from nlpft.data.convert import Options, convert
from nlpft.data.tokenizer import TextTokenizer
from nlpft.recipes_dir import recipes_dir


def words(run, model, dataset):
    fixed = {"model": model, "output_dir": run, "data.train": dataset, "data.max_length": 128, "data.packs_per_step": 4,
             "max_steps": 3, "optim.lr": 0.01, "seed": 1}  # fmt: skip
    return [word for key, value in fixed.items() for word in (f"--{key}", str(value))]


def losses(run):
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").open()]


def test_two_groups_on_one_machine_train_as_one_process(tmp_path, tiny_folder):
    rows = [tiny.chat("word " * (1 + n % 9), f"reply {n} " * (1 + n % 7)) for n in range(40)]
    convert([tiny.write_json(tmp_path / "rows.json", rows)], tmp_path / "data", TextTokenizer(tiny_folder), Options())
    sft.main(config.parse(sft.Config, words(tmp_path / "one", tiny_folder, tmp_path / "data")))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = str(recipes_dir() / "accelerate" / "multi_node.yaml")
    launch = [sys.executable, "-m", "nlpft.commands._launch", "--config_file", file, "--cpu", "--num_processes", "2"]
    launch += ["--main_process_port", str(port), "--machine_rank"]
    command = [str(recipes_dir() / "sft.py"), *words(tmp_path / "two", tiny_folder, tmp_path / "data")]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    groups = [subprocess.Popen([*launch, rank, *command], env=env, stderr=subprocess.PIPE, text=True) for rank in "01"]
    said = [group.communicate(timeout=240)[1] for group in groups]
    assert [group.returncode for group in groups] == [0, 0], said[0][-2000:] + said[1][-2000:]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    launched = json.loads((tmp_path / "two" / "environment.json").read_text())
    assert (launched["processes"], launched["launch"]["machines"]) == (2, 2)
