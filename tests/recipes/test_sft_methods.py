"""Methods as a recipe puts them together: each trains, and goes on after a stop as if it had not stopped."""

import json
import shutil

import pytest
import sft
import tiny
import torch

from nlpft import config
from nlpft.data.convert import Options, convert
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ConfigError
from nlpft.models.load import load_model
from nlpft.training import checkpoint


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, tiny_folder):
    folder = tmp_path_factory.mktemp("methods")
    rows = [tiny.chat("word " * (1 + n % 9), f"reply {n} " * (1 + n % 7)) for n in range(40)]
    convert([tiny.write_json(folder / "rows.json", rows)], folder / "out", TextTokenizer(tiny_folder), Options())
    return folder / "out"


def train(run, model, dataset, *more):
    fixed = {"model": model, "output_dir": run, "data.train": dataset, "data.eval": dataset, "data.max_length": 128,
             "data.packs_per_step": 3, "max_steps": 6, "optim.lr": 0.01, "optim.warmup": 0, "seed": 1,
             "checkpoint.every": 1, "checkpoint.keep": 99}  # fmt: skip
    words = [word for key, value in fixed.items() for word in (f"--{key}", str(value))]
    sft.main(config.parse(sft.Config, [*words, *more]))
    return [json.loads(line) for line in (run / "metrics.jsonl").open()]


CASES = {
    "gradual": ["--tuning.name", "gradual", "--tuning.every", "1", "--optim.layer_decay", "0.9"],
    "pissa": ["--tuning.rank", "4", "--tuning.init", "pissa", "--tuning.lr_ratio", "4"],
    "dora": ["--tuning.name", "dora", "--tuning.rank", "4", "--optim.schedule", "wsd"],
    "muon": ["--tuning.name", "full", "--optim.name", "muon", "--regularize.average", "0.5"],
    "noise": ["--tuning.name", "full", "--regularize.neftune", "5", "--regularize.dropout", "0.1",
              "--regularize.l2_sp", "0.1", "--objective.label_smoothing", "0.1", "--optim.name", "momentum",
              "--optim.lr_of", "*norm*=2"],
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_held_out_loss_falls_and_a_resume_equals_not_stopping(case, tmp_path, tiny_folder, dataset):
    more = [*CASES[case], "--eval_every", "3"]
    whole = train(tmp_path / "whole", tiny_folder, dataset, *more)
    held_out = [line["loss"] for line in whole if line["kind"] == "eval"]
    assert held_out[-1] < held_out[0] < 6.03
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    for step in (4, 5, 6):  # as if killed after step 3
        shutil.rmtree(tmp_path / "parts" / "checkpoints" / f"step-{step:08d}")
    shutil.rmtree(tmp_path / "parts" / "model")
    resumed = train(tmp_path / "parts", tiny_folder, dataset, *more, "--resume")
    assert [line["loss"] for line in resumed] == [line["loss"] for line in whole]
    one, two = (checkpoint.read(tmp_path / run / "checkpoints" / "step-00000006") for run in ("whole", "parts"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_averages_are_what_is_evaluated_and_saved(tmp_path, tiny_folder, dataset):
    lines = train(tmp_path / "run", tiny_folder, dataset, *CASES["muon"])
    state = checkpoint.read(tmp_path / "run" / "checkpoints" / "step-00000006")
    saved = load_model(str(tmp_path / "run" / "model"), "float32").state_dict()
    name = "model.layers.1.mlp.up_proj.weight"
    assert torch.equal(saved[name], state[f"optimizer.{name}.average"])
    assert not torch.equal(saved[name], state[f"weights.{name}"])
    plain = train(tmp_path / "plain", tiny_folder, dataset, *CASES["muon"], "--regularize.average", "0")
    assert [x["loss"] for x in lines if x["kind"] == "train"] == [x["loss"] for x in plain if x["kind"] == "train"]
    assert [x["loss"] for x in lines if x["kind"] == "eval"] != [x["loss"] for x in plain if x["kind"] == "eval"]


def test_the_groups_are_printed_with_their_rates(tmp_path, tiny_folder, dataset, capfd):
    train(tmp_path / "run", tiny_folder, dataset, "--tuning.rank", "4", "--tuning.lr_ratio", "4")
    said = " ".join("".join(capfd.readouterr()).split())
    assert "matrices of blocks: 3,072 parameters, rate 0.01, decay 0" in said
    assert "matrices of blocks x 4: 3,072 parameters, rate 0.04, decay 0" in said


def test_a_penalty_without_meaning_is_refused_before_anything_is_written(tmp_path, tiny_folder, dataset):
    with pytest.raises(ConfigError, match=r"regularize\.l1 -1\.0"):
        train(tmp_path / "run", tiny_folder, dataset, "--regularize.l1", "-1")
    assert not (tmp_path / "run").exists()
