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
from steps import packed

from nlpft import config
from nlpft.data.convert import Options, convert
from nlpft.data.tokenizer import TextTokenizer
from nlpft.models.forward import loss
from nlpft.objectives import causal_lm
from nlpft.training import checkpoint, method, run, zero
from nlpft.training.loop import StepSettings, train_steps
from nlpft.training.optim import OptimConfig
from nlpft.training.regularize import RegularizeConfig
from nlpft.tuning import full

pytest.importorskip(
    "deepspeed", reason='pip install "nlpft[deepspeed]"; then DS_ACCELERATOR=cpu pytest tests/recipes/test_deepspeed.py'
)

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
        plugin.set_mixed_precision(options.get("mixed_precision") or "no")
        plugin.select(_from_accelerator_state=True)
        for state in (PartialState, AcceleratorState):
            state._shared_state["distributed_type"] = DistributedType.DEEPSPEED
        AcceleratorState._shared_state["deepspeed_plugins"] = plugin
        accelerator.deepspeed_engine_wrapped = None
        return accelerator

    return make


def train(words, stage=None):
    """What a run measured: losses of training and of evaluations, and norms of gradients; on DeepSpeed with a `stage`."""
    if stage:
        os.environ["DS_ACCELERATOR"] = "cpu"
        run.Accelerator = on_cpu(stage)
    cfg = config.parse(sft.Config, words)
    sft.main(cfg)
    lines = [json.loads(line) for line in (cfg.output_dir / "metrics.jsonl").open()]
    steps = [m for m in lines if m["kind"] == "train"]
    return {
        "train": [m["loss"] for m in steps],
        "eval": [m["loss"] for m in lines if m["kind"] == "eval"],
        "norm": [m["grad_norm"] for m in steps],
    }


def words(folder, tiny_folder, dataset, *more):
    fixed = {"model": tiny_folder, "output_dir": folder, "data.train": dataset, "data.max_length": 128, "data.packs_per_step": 4,
             "data.eval": dataset, "max_steps": 6, "optim.lr": 0.01, "optim.warmup": 0, "checkpoint.every": 3,
             "checkpoint.keep": 9, "seed": 1, "optim.max_grad_norm": 0.5}  # fmt: skip
    return [*(word for key, value in fixed.items() for word in (f"--{key}", str(value))), *more]


CASES = [("full", 1), ("lora", 2), ("full", 2), ("lora", 3), ("full", 3)]


@pytest.mark.parametrize(("tuned", "stage"), CASES)
def test_zero_trains_saves_and_resumes_as_one_process_does(tuned, stage, tmp_path, tiny_folder, dataset):
    one, two = tmp_path / "one", tmp_path / "two"
    expected = processes.run(train, 1, words(one, tiny_folder, dataset, *METHODS[tuned]))[0]
    for got in processes.run(train, 2, words(two, tiny_folder, dataset, *METHODS[tuned]), stage):
        for name in ("train", "eval", "norm"):
            assert got[name] == pytest.approx(expected[name], rel=1e-4)
    assert max(expected["norm"]) > 0.5  # some gradients were clipped
    file = "model.safetensors" if tuned == "full" else "adapter_model.safetensors"
    a, b = (load_file(folder / "model" / file) for folder in (one, two))
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-2, atol=1e-4)
    assert os.path.getsize(one / "model" / file) == os.path.getsize(two / "model" / file)

    again = cut(two, tmp_path / "again")
    resumed = processes.run(train, 2, words(again, tiny_folder, dataset, *METHODS[tuned], "--resume"), stage)[0]
    assert resumed["train"] == pytest.approx(expected["train"], rel=1e-4)
    kept, found = (checkpoint.read(folder / "checkpoints" / "step-00000006") for folder in (two, again))
    assert any("exp_avg_sq" in name for name in kept)
    assert kept.keys() == found.keys()
    for name in kept:
        assert torch.equal(kept[name], found[name]), name


def cut(run_folder, copy):
    """A copy of a run without its last checkpoint."""
    shutil.copytree(run_folder, copy)
    shutil.rmtree(copy / "checkpoints" / "step-00000006")
    return copy


def test_what_one_launch_wrote_any_other_takes(tmp_path, tiny_folder, dataset):
    whole = tmp_path / "one"
    expected = processes.run(train, 1, words(whole, tiny_folder, dataset, *METHODS["lora"]))[0]["train"]
    for number, (count, stage) in enumerate(
        [(2, 2), (3, 3), (1, None)]
    ):  # each goes on from what the one before it wrote
        whole = cut(whole, tmp_path / str(number))
        settings = words(whole, tiny_folder, dataset, *METHODS["lora"], "--resume")
        assert processes.run(train, count, settings, stage)[0]["train"] == pytest.approx(expected, rel=1e-4)


def steps_of(stage, kinds):
    """What was wrong with a step of each of `kinds` by its report, then the weights and what the optimiser keeps of them."""
    accelerator = on_cpu(stage)()
    model, optimizer = method.prepare(accelerator, tiny.make_model(), OptimConfig(), full.Config(), RegularizeConfig())
    empty = {
        **packed(),
        "labels": torch.full_like(packed()["labels"], -100),
        "targets": torch.full_like(packed()["targets"], -100),
    }
    told = iter([kind for kind in kinds for _ in range(2)])

    def step_loss(model, batch):
        nats, kind = loss(model, batch), next(told)
        if kind == "loss" and accelerator.is_main_process:
            nats = nats * float("nan")
        if kind == "gradient" and not accelerator.is_main_process:
            nats.register_hook(lambda gradient: gradient * float("inf"))
        return nats

    batches = [[empty if kind == "empty" else packed()] * 2 for kind in kinds]
    settings = StepSettings(lambda step: 0.01)
    taken = train_steps(accelerator, model, optimizer, batches, step_loss, causal_lm.num_targets, settings)
    problems = [report.problem for report in taken]
    found = zero.states(accelerator.unwrap_model(model), optimizer)
    return problems, {name: [weight.numpy(), *(m.numpy() for m in moments.values())] for name, weight, moments in found}


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_bad_step_changes_nothing(stage):
    _, expected = processes.run(steps_of, 2, stage, ["good", "good"])[0]
    problems, found = processes.run(steps_of, 2, stage, ["good", "loss", "empty", "gradient", "good"])[0]
    assert problems == ["", "the loss is not finite", "no learnt token", "the gradient is not finite", ""]
    assert found.keys() == expected.keys()
    for name in found:
        assert len(found[name]) == 4  # the weight, the number of steps, two moments
        assert all((a == b).all() for a, b in zip(found[name], expected[name], strict=True)), name


@pytest.mark.parametrize(
    "more",
    [
        ("freeze", "--tuning.train_last", "1"),
        ("freeze", "--tuning.train_last", "0", "--tuning.train_first", "1"),
        ("dora",),
        ("lora", "--compute.keep_activations", "0.3"),
    ],
)
def test_zero_3_trains_some_of_the_blocks(more, tmp_path, tiny_folder, dataset):
    wanted = ("--tuning.name", *more, "--max_steps", "3", "--optim.name", "momentum")
    expected = processes.run(train, 1, words(tmp_path / "one", tiny_folder, dataset, *wanted))[0]
    assert processes.run(train, 2, words(tmp_path / "two", tiny_folder, dataset, *wanted), 3)[0][
        "train"
    ] == pytest.approx(expected["train"], rel=1e-4)
