"""recipes/sft.py under DeepSpeed's ZeRO."""

import json
import os
import shutil

import processes
import pytest
import sft
import tiny
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DeepSpeedPlugin, DistributedType
from safetensors.torch import load_file

from nlpft import config
from nlpft.data.convert import Options, convert
from nlpft.data.tokenizer import TextTokenizer
from nlpft.training import checkpoint, run

pytest.importorskip("deepspeed", reason='pip install "nlpft[deepspeed]"; then DS_ACCELERATOR=cpu pytest tests/recipes/test_zero.py')

METHODS = {"full": ["--tuning.name", "full"], "lora": ["--tuning.name", "lora", "--tuning.dropout", "0.2"]}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, tiny_folder):
    folder = tmp_path_factory.mktemp("zero")
    rows = [tiny.chat("word " * (1 + n % 9), f"reply {n} " * (1 + n % 7)) for n in range(40)]
    convert([tiny.write_json(folder / "rows.json", rows)], folder / "out", TextTokenizer(tiny_folder), Options())
    return folder / "out"


def on_cpu(stage):
    """An Accelerator as `accelerate launch --use_deepspeed` makes it on GPUs; on a CPU it would take DDP."""

    def make(**options):
        import deepspeed

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # else it is compiled first, for minutes
        accelerator = Accelerator(cpu=True, **options)
        plugin = DeepSpeedPlugin(zero_stage=stage, zero3_init_flag=False)
        plugin.set_mixed_precision("no")
        plugin.select(_from_accelerator_state=True)
        for state in (PartialState, AcceleratorState):
            state._shared_state["distributed_type"] = DistributedType.DEEPSPEED
        AcceleratorState._shared_state["deepspeed_plugins"] = plugin
        accelerator.deepspeed_engine_wrapped = None
        return accelerator

    return make


def train(words, stage=None):
    """A run's training and evaluation losses, gradient norms."""
    if stage:
        os.environ["DS_ACCELERATOR"] = "cpu"
        run.Accelerator = on_cpu(stage)
    cfg = config.parse(sft.Config, words)
    sft.main(cfg)
    lines = [json.loads(line) for line in (cfg.output_dir / "metrics.jsonl").open()]
    steps = [m for m in lines if m["kind"] == "train"]
    return [m["loss"] for m in steps], [m["loss"] for m in lines if m["kind"] == "eval"], [m["grad_norm"] for m in steps]


def words(folder, tiny_folder, dataset, *more):
    fixed = {"model": tiny_folder, "output_dir": folder, "data.train": dataset, "data.max_length": 128, "data.packs_per_step": 4,
             "data.eval": dataset, "max_steps": 6, "optim.lr": 0.01, "optim.warmup": 0, "checkpoint.every": 3,
             "checkpoint.keep": 9, "seed": 1, "optim.max_grad_norm": 0.5}  # fmt: skip
    return [*(word for key, value in fixed.items() for word in (f"--{key}", str(value))), *more]


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_zero_trains_as_one_process_does(method, stage, tmp_path, tiny_folder, dataset):
    one, two = tmp_path / "one", tmp_path / "two"
    [(losses, evals, norms)] = processes.run(train, 1, words(one, tiny_folder, dataset, *METHODS[method]))
    for got, got_evals, got_norms in processes.run(train, 2, words(two, tiny_folder, dataset, *METHODS[method]), stage):
        print(losses, got, norms, got_norms, evals, got_evals)
        assert got == pytest.approx(losses, rel=1e-4)
        assert got_evals == pytest.approx(evals, rel=1e-4)
        assert got_norms == pytest.approx(norms, rel=1e-3)
