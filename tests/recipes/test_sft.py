"""recipes/sft.py: pinned by exact losses, equal after a resume, the same on two processes, clear where it refuses."""

import json
import re
import shutil
import sys
import time
from pathlib import Path

import processes
import pytest
import sft
import tiny
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from nlpft import cli, config
from nlpft.commands import verify_resume
from nlpft.data.convert import Options, convert
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ConfigError, DataError, ModelError, RunExists
from nlpft.training import checkpoint

RECIPE = Path(sft.__file__)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, tiny_folder):
    folder = tmp_path_factory.mktemp("sft")
    rows = [tiny.chat("word " * (1 + n % 9), f"reply {n} " * (1 + n % 7)) for n in range(40)]
    convert([tiny.write_json(folder / "rows.json", rows)], folder / "out", TextTokenizer(tiny_folder), Options())
    return folder / "out"


def words(run: Path, model: Path, dataset: Path, *more: str) -> list[str]:
    fixed = {"model": model, "output_dir": run, "data.train": dataset, "data.max_length": 128, "data.packs_per_step": 3,
             "max_steps": 6, "optim.lr": 0.01, "optim.warmup": 0, "seed": 1}  # fmt: skip
    return [*(word for key, value in fixed.items() for word in (f"--{key}", str(value))), *more]


def train(run: Path, model: Path, dataset: Path, *more: str) -> list[dict]:
    sft.main(config.parse(sft.Config, words(run, model, dataset, *more)))
    return metrics(run)


def metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").open()]


def losses(lines: list[dict], kind: str = "train") -> list[float]:
    return [line["loss"] for line in lines if line["kind"] == kind]


def trained(run: Path, step: int = 6) -> dict:
    """Trained weights in a checkpoint, by name."""
    found = checkpoint.read(run / "checkpoints" / f"step-{step:08d}")
    return {name.removeprefix("weights."): x for name, x in found.items() if name.startswith("weights.")}


METHODS = {
    "full": ["--tuning.name", "full"],
    "lora": ["--tuning.name", "lora", "--tuning.rank", "4"],
    "freeze": ["--tuning.name", "freeze", "--tuning.train_last", "1"],
}
PINNED = {  # a change here is a change of what users' runs compute: say why in the commit
    "full": [6.03013, 5.98307, 5.41088, 5.04877, 4.86943, 4.78356],
    "lora": [6.03013, 5.99635, 5.86163, 5.83137, 5.81222, 5.80450],
    "freeze": [6.03013, 5.91995, 5.85077, 5.80441, 5.80923, 5.81122],
}


@pytest.mark.parametrize("method", METHODS)
def test_losses_are_pinned(method, tmp_path, tiny_folder, dataset):
    got = losses(train(tmp_path / "run", tiny_folder, dataset, *METHODS[method]))
    assert got == pytest.approx(PINNED[method], rel=1e-4)


def wait_for(run: Path, steps: int) -> None:
    while not (run / "metrics.jsonl").exists() or len(metrics(run)) < steps:
        time.sleep(0.002)


@pytest.mark.parametrize("step", [1, 4, 5])
@pytest.mark.parametrize("method", METHODS)
def test_resuming_after_any_step_ends_in_the_same_bits(method, step, tmp_path, tiny_folder, dataset):
    more = [*METHODS[method], "--checkpoint.every", "1", "--checkpoint.keep", "99"]
    more += ["--data.eval", str(dataset), "--eval_every", "2"]
    more += ["--tuning.dropout", "0.3"] if method == "lora" else []
    whole = train(tmp_path / "whole", tiny_folder, dataset, *more)
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    for later in range(step + 1, 7):  # as if killed after `step`
        shutil.rmtree(tmp_path / "parts" / "checkpoints" / f"step-{later:08d}")
    shutil.rmtree(tmp_path / "parts" / "model")
    resumed = train(tmp_path / "parts", tiny_folder, dataset, *more, "--resume")
    assert [(m["kind"], m["step"], m["loss"]) for m in resumed] == [(m["kind"], m["step"], m["loss"]) for m in whole]
    a, b = trained(tmp_path / "whole"), trained(tmp_path / "parts")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("method", ["lora"])  # resuming_after_any_step has them all, in one process
def test_killed_at_any_step_and_resumed_a_run_ends_in_the_same_bits(method, tmp_path, tiny_folder, dataset, capfd):
    """SIGKILL, mid-epoch, with packing and dropout: through the command that proves it to users."""
    more = [*METHODS[method], "--data.eval", str(dataset), "--eval_every", "2"]
    more += ["--tuning.dropout", "0.3"] if method == "lora" else []
    code = cli.main(["verify-resume", str(RECIPE), *words(tmp_path / "never", tiny_folder, dataset, *more)])
    said = capfd.readouterr().out
    assert code == 0, said
    assert re.search(
        r"killed after step \d; goes on from step-0000000[246]\nequal, bit for bit: \d+ trained weights", said
    )
    assert not (tmp_path / "never").exists()


def test_a_resume_that_forgets_something_is_found_out(tmp_path, tiny_folder, dataset, monkeypatch, capfd):
    recipe = RECIPE.read_text()
    begun = "train, score, max_steps, newest)\n"
    assert recipe.count(begun) == 1
    forgetful = recipe.replace(begun, f"{begun}    if newest:\n        optimizer.state.clear()\n")
    (tmp_path / "forgets.py").write_text(forgetful)

    def finish(command, run):
        assert processes.here(command[3:]) == 0  # [python, -m, nlpft, train, RECIPE, *settings]

    def cut(command, run):  # the kill itself is tested above
        finish(command, run)
        for step in (6, 8):
            shutil.rmtree(run / "checkpoints" / f"step-{step:08d}", ignore_errors=True)

    monkeypatch.setattr(verify_resume, "finish", finish)
    monkeypatch.setattr(verify_resume, "kill", cut)
    settings = ["--checkpoint.keep", "9"]
    code = cli.main(
        ["verify-resume", str(tmp_path / "forgets.py"), *words(tmp_path / "never", tiny_folder, dataset, *settings)]
    )
    said = capfd.readouterr().out
    assert code == 1
    assert re.search(r"step \d: loss .* and .*", said)
    assert "not deterministic" not in said


def test_a_signal_saves_first_and_a_resume_ends_in_the_same_bits(tmp_path, tiny_folder, dataset):
    more = ["--tuning.dropout", "0.3", "--checkpoint.every", "0", "--max_steps", "60"]
    whole = train(tmp_path / "whole", tiny_folder, dataset, *more)
    command = [sys.executable, str(RECIPE), *words(tmp_path / "run", tiny_folder, dataset, *more)]
    child = processes.start(command, tmp_path / "stderr")
    wait_for(tmp_path / "run", 3)
    child.terminate()
    child.join(60)
    assert child.exitcode == 143
    said = (tmp_path / "stderr").read_text()
    step = int(re.search(r"step (\d+) is saved, go on from it by --resume", said)[1])
    assert 3 <= step < 60
    assert metrics(tmp_path / "run")[-1]["step"] == step
    assert not (tmp_path / "run" / "model").exists()
    assert losses(train(tmp_path / "run", tiny_folder, dataset, *more, "--resume")) == losses(whole)
    a, b = (load_file(tmp_path / run / "model" / "adapter_model.safetensors") for run in ("whole", "run"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_any_number_of_processes_goes_on_with_the_same_rows(tmp_path, tiny_folder, dataset):
    more = ["--tuning.dropout", "0.3", "--checkpoint.every", "3", "--checkpoint.keep", "9"]
    whole = train(tmp_path / "1", tiny_folder, dataset, *more)
    processes.run(train, 2, tmp_path / "2", tiny_folder, dataset, *more)
    for before, after in ((1, 2), (2, 2), (2, 1)):
        run = shutil.copytree(tmp_path / str(before), tmp_path / f"{before} then {after}")
        shutil.rmtree(run / "checkpoints" / "step-00000006")
        shutil.rmtree(run / "model")
        resumed = processes.run(train, after, run, tiny_folder, dataset, *more, "--resume")[0]
        assert [(m["step"], m["targets"]) for m in resumed] == [(m["step"], m["targets"]) for m in whole]
        assert losses(resumed) == pytest.approx(losses(whole), rel=1e-4)
        assert trained(run).keys() == trained(tmp_path / "1").keys()


def test_two_processes_give_the_losses_of_one(tmp_path, tiny_folder, dataset):
    # 40 rows in 3 packs a step: the last step of an epoch is uneven, and one process has less than the other
    more = ["--data.eval", str(dataset), "--eval_every", "3", "--tuning.rank", "4"]
    one = train(tmp_path / "one", tiny_folder, dataset, *more)
    two = processes.run(train, 2, tmp_path / "two", tiny_folder, dataset, *more)[0]
    assert json.loads((tmp_path / "two" / "environment.json").read_text())["processes"] == 2
    assert [(m["kind"], m["step"], m["targets"]) for m in one] == [(m["kind"], m["step"], m["targets"]) for m in two]
    assert losses(one) == pytest.approx(losses(two), rel=1e-4)
    assert losses(one, "eval") == pytest.approx(losses(two, "eval"), rel=1e-4)


def test_stops_early_and_keeps_the_best(tmp_path, tiny_folder, dataset):
    more = [
        "--data.eval",
        str(dataset),
        "--eval_every",
        "1",
        "--patience",
        "2",
        "--max_steps",
        "40",
        "--optim.lr",
        "3",
        "--tuning.name",
        "full",
    ]
    lines = train(tmp_path / "run", tiny_folder, dataset, *more)
    evals = losses(lines, "eval")
    best = evals.index(min(evals)) + 1
    assert len(evals) == best + 2 < 40
    kept = trained(tmp_path / "run", best)
    final = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert all(torch.equal(final[name], kept[name]) for name in final)


def test_the_run_folder_says_what_ran(tmp_path, tiny_folder, dataset):
    train(tmp_path / "run", tiny_folder, dataset, "--trackers", "tensorboard", "--max_steps", "2")
    said = config.load(sft.Config, tmp_path / "run" / "config.yaml")
    assert said == config.parse(
        sft.Config, words(tmp_path / "run", tiny_folder, dataset, "--trackers", "tensorboard", "--max_steps", "2")
    )
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__
    assert json.loads((tmp_path / "run" / "data.json").read_text())["train"]["fingerprint"]
    assert list((tmp_path / "run").rglob("events.out.tfevents*"))
    for file in ("adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "chat_template.jinja"):
        assert (tmp_path / "run" / "model" / file).is_file()


@pytest.mark.parametrize(
    ("more", "error", "said"),
    [
        (["--data.train", "nowhere"], DataError, "nowhere: not a dataset folder"),
        (["--data.max_length", "20"], DataError, r"rows are longer than data\.max_length 20"),
        (["--data.max_length", "1000"], ConfigError, "more than the model's context, 256 tokens"),
        (["--data.packs_per_step", "0"], ConfigError, r"data\.packs_per_step 0"),
        (["--model", "./no_such_folder"], ModelError, "no_such_folder"),
        (["--tuning.targets", "w_proj"], ConfigError, "q_proj"),
        (["--tuning.name", "freeze", "--tuning.train_last", "9"], ConfigError, "the model has 3 blocks"),
        (["--optim.lr", "0"], ConfigError, r"optim\.lr 0"),
        (["--optim.max_grad_norm", "-1"], ConfigError, r"optim\.max_grad_norm -1"),
        (["--max_steps", "-1"], ConfigError, "max_steps -1"),
        (["--seed", "-1"], ConfigError, "seed -1"),
        (["--checkpoint.keep", "0"], ConfigError, r"checkpoint\.keep 0"),
        (["--tuning.dropout", "2"], ConfigError, r"tuning\.dropout 2"),
        (["--trackers", "tensorbord"], ConfigError, "tensorboard"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_written(tmp_path, tiny_folder, dataset, more, error, said):
    with pytest.raises(error, match=said):
        train(tmp_path / "run", tiny_folder, dataset, *more)
    assert not (tmp_path / "run").exists()


def test_a_folder_in_use_is_refused(tmp_path, tiny_folder, dataset):
    train(tmp_path / "run", tiny_folder, dataset, "--max_steps", "1")
    with pytest.raises(RunExists, match="--resume"):
        train(tmp_path / "run", tiny_folder, dataset)


def test_a_resume_with_other_settings_is_refused(tmp_path, tiny_folder, dataset):
    train(tmp_path / "run", tiny_folder, dataset, "--max_steps", "2")
    with pytest.raises(ConfigError, match=r"(?s)optim\.lr.*0\.01.*0\.5"):
        train(tmp_path / "run", tiny_folder, dataset, "--max_steps", "2", "--resume", "--optim.lr", "0.5")


def test_a_user_error_exits_with_2_and_no_traceback(tmp_path, tiny_folder, dataset, capfd):
    command = [sys.executable, str(RECIPE), *words(tmp_path / "run", tiny_folder, dataset, "--optim.lrr", "1")]
    assert processes.here(command) == 2
    said = capfd.readouterr().err
    assert "--optim.lr" in said
    assert "Traceback" not in said


def test_a_dataset_of_another_tokenizer_is_refused(tmp_path, tiny_folder, dataset):
    shutil.copytree(tiny_folder, tmp_path / "other")
    file = tmp_path / "other" / "tokenizer.json"
    spec = json.loads(file.read_text())
    spec["model"]["vocab"]["never"] = len(spec["model"]["vocab"])
    file.write_text(json.dumps(spec))
    with pytest.raises(ConfigError, match="which is not that of"):
        train(tmp_path / "run", tmp_path / "other", dataset)


def test_an_adapter_is_not_trained_as_if_it_were_a_model(tmp_path, tiny_folder, dataset):
    train(tmp_path / "run", tiny_folder, dataset, "--max_steps", "1")
    with pytest.raises(ConfigError, match="nlpft merge"):
        train(tmp_path / "next", tmp_path / "run" / "model", dataset)


def test_a_resume_on_other_rows_is_refused(tmp_path, tiny_folder, dataset):
    shutil.copytree(dataset, tmp_path / "data")
    train(tmp_path / "run", tiny_folder, tmp_path / "data", "--max_steps", "1")
    info = json.loads((tmp_path / "data" / "nlpft.json").read_text())
    (tmp_path / "data" / "nlpft.json").write_text(json.dumps({**info, "fingerprint": "other"}))
    with pytest.raises(ConfigError, match="converted anew"):
        train(tmp_path / "run", tiny_folder, tmp_path / "data", "--max_steps", "1", "--resume")


def test_a_run_that_stopped_early_does_not_go_on_when_resumed(tmp_path, tiny_folder, dataset):
    more = ["--data.eval", str(dataset), "--eval_every", "1", "--patience", "1", "--max_steps", "40", "--optim.lr", "3"]
    before = train(tmp_path / "run", tiny_folder, dataset, *more, "--tuning.name", "full")
    shutil.rmtree(tmp_path / "run" / "model")  # as if killed before it was written
    after = train(tmp_path / "run", tiny_folder, dataset, *more, "--tuning.name", "full", "--resume")
    assert after == before
    assert (tmp_path / "run" / "model").is_dir()


@pytest.fixture
def fresh_accelerate():
    """A process has one precision for good; the tests here share a process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("fresh_accelerate")
def test_bfloat16_weights_that_train_are_kept_in_float32(tmp_path, tiny_folder, dataset):
    more = ["--dtype", "bfloat16", "--tuning.name", "full", "--optim.lr", "1e-5", "--data.eval", str(dataset)]
    lines = train(tmp_path / "run", tiny_folder, dataset, *more)
    weights = trained(tmp_path / "run")
    assert {w.dtype for w in weights.values()} == {torch.float32}
    start = load_file(tiny_folder / "model.safetensors")
    moved = [(weights[n].bfloat16() != weights[n]).any() for n in weights if weights[n].ndim > 1]
    assert all(moved)  # bfloat16 alone could not hold such small steps
    assert start.keys() >= weights.keys()
    assert {w.dtype for w in load_file(tmp_path / "run" / "model" / "model.safetensors").values()} == {torch.bfloat16}
    assert losses(lines, "eval")[0] < 6.03


def test_a_users_own_method_is_loaded_by_its_dotted_name(tmp_path, tiny_folder, dataset, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = f"own_{tmp_path.name[-1]}.norms"
    (tmp_path / name.split(".")[0]).mkdir()
    (tmp_path / (name.replace(".", "/") + ".py")).write_text(
        f"""from dataclasses import dataclass
from typing import Literal
@dataclass(frozen=True)
class Config:
    name: Literal["{name}"] = "{name}"
    also_head: bool = False
def apply(model, config):
    for key, weight in model.named_parameters():
        weight.requires_grad_("norm" in key)
    return model
"""
    )
    train(tmp_path / "run", tiny_folder, dataset, "--tuning.name", name, "--tuning.also_head")
    assert config.load(sft.Config, tmp_path / "run" / "config.yaml").tuning.also_head
    weights = trained(tmp_path / "run")
    assert weights
    assert all("norm" in key for key in weights)


@pytest.mark.parametrize(("name", "said"), [("masked_lm", "trains no decoder"), ("classification", "is for heads")])
def test_an_objective_of_other_models_is_refused(name, said, tmp_path, tiny_folder, dataset):
    cfg = config.parse(sft.Config, words(tmp_path / "run", tiny_folder, dataset, "--objective.name", name))
    with pytest.raises(ConfigError, match=f"objective.name {name}: {said}"):
        sft.main(cfg)
    assert not (tmp_path / "run").exists()
