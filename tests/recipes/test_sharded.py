"""recipes/sft.py under FSDP2: the losses of one process, checkpoints that any number of processes takes, adapters saved small."""

import json
import os
import shutil

import processes
import pytest
import sft
import tiny
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from safetensors.torch import load_file

from nlpft import config
from nlpft.data.convert import Options, convert
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ConfigError
from nlpft.models.load import is_sharded
from nlpft.training import checkpoint, run

METHODS = {"full": ["--tuning.name", "full"], "lora": ["--tuning.name", "lora", "--tuning.dropout", "0.2"]}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, tiny_folder):
    folder = tmp_path_factory.mktemp("sharded")
    rows = [tiny.chat("word " * (1 + n % 9), f"reply {n} " * (1 + n % 7)) for n in range(40)]
    convert([tiny.write_json(folder / "rows.json", rows)], folder / "out", TextTokenizer(tiny_folder), Options())
    return folder / "out"


def sharded_on_cpu(**options):
    """An Accelerator as `accelerate launch --use_fsdp --fsdp_version 2` makes it on GPUs; on a CPU it would take DDP."""
    accelerator = Accelerator(cpu=True, **options)
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")
    accelerator.state._shared_state.update(distributed_type=DistributedType.FSDP, fsdp_plugin=plugin)
    return accelerator


def train(words, sharded=True):
    """A run's losses and whether its weights were in parts."""
    found = []
    if sharded:
        run.Accelerator = sharded_on_cpu
        take_steps = run.train_steps

        def watched(accelerator, model, *rest):
            found.append(is_sharded(model))
            return take_steps(accelerator, model, *rest)

        run.train_steps = watched
    cfg = config.parse(sft.Config, words)
    sft.main(cfg)
    lines = [json.loads(line) for line in (cfg.output_dir / "metrics.jsonl").open()]
    return [m["loss"] for m in lines if m["kind"] == "train"], [m["loss"] for m in lines if m["kind"] == "eval"], found


def words(folder, tiny_folder, dataset, *more):
    fixed = {"model": tiny_folder, "output_dir": folder, "data.train": dataset, "data.max_length": 128, "data.packs_per_step": 4,
             "data.eval": dataset, "max_steps": 6, "optim.lr": 0.01, "optim.warmup": 0, "checkpoint.every": 3,
             "checkpoint.keep": 9, "seed": 1}  # fmt: skip
    return [*(word for key, value in fixed.items() for word in (f"--{key}", str(value))), *more]


def test_weights_in_parts_are_held_back_and_begin_as_whole_ones_do(tmp_path, tiny_folder, dataset):
    """Gradual unfreezing and Adagrad keep hold of weights, which FSDP2 replaces by their parts."""
    more = ["--tuning.name", "gradual", "--optim.name", "adagrad"]
    [(losses, evals, _)] = processes.run(train, 1, words(tmp_path / "one", tiny_folder, dataset, *more), False)
    got, got_evals, _ = processes.run(train, 2, words(tmp_path / "two", tiny_folder, dataset, *more))[0]
    assert got == pytest.approx(losses, rel=1e-4)
    assert got_evals == pytest.approx(evals, rel=1e-4)


def test_pissa_cannot_be_saved_from_parts_and_is_refused(tmp_path, tiny_folder, dataset):
    with pytest.raises(ConfigError, match=r"tuning\.init pissa cannot be saved from parts"):
        processes.run(train, 2, words(tmp_path / "run", tiny_folder, dataset, "--tuning.init", "pissa"))


@pytest.mark.parametrize("method", METHODS)
def test_fsdp2_trains_as_one_process_does_and_resumes_on_any_number(method, tmp_path, tiny_folder, dataset):
    one, two = tmp_path / "one", tmp_path / "two"
    [(losses, evals, _)] = processes.run(train, 1, words(one, tiny_folder, dataset, *METHODS[method]), False)
    for got, got_evals, kinds in processes.run(train, 2, words(two, tiny_folder, dataset, *METHODS[method])):
        assert kinds == [True]
        assert got == pytest.approx(losses, rel=1e-4)
        assert got_evals == pytest.approx(evals, rel=1e-4)
    file = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    a, b = (load_file(folder / "model" / file) for folder in (one, two))
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-2, atol=1e-4)
    assert os.path.getsize(one / "model" / file) == os.path.getsize(two / "model" / file)

    for count, sharded in ((4, True), (1, False)):  # what two wrote, four and one take
        again = shutil.copytree(two, tmp_path / f"again{count}")
        shutil.rmtree(again / "checkpoints" / "step-00000006")
        settings = words(again, tiny_folder, dataset, *METHODS[method], "--resume")
        got, *_ = processes.run(train, count, settings, sharded)[0]
        assert got == pytest.approx(losses, rel=1e-4)
        moments = {n: x for n, x in checkpoint.read(again / "checkpoints" / "step-00000006").items() if "exp_avg" in n}
        expected = checkpoint.read(two / "checkpoints" / "step-00000006")
        assert moments
        for name, moment in moments.items():
            torch.testing.assert_close(moment, expected[name], rtol=1e-2, atol=1e-5)
