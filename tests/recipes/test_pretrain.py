"""recipes/pretrain.py: every objective pinned by exact losses, equal after a resume, clear where it refuses."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import corpora
import pretrain
import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer

from nlpft import config
from nlpft.data import store
from nlpft.errors import ConfigError, DataError
from nlpft.training import checkpoint

KINDS = {"causal_lm": "decoder", "masked_lm": "encoder", "denoising": "encoder-decoder"}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return corpora.write_text(tmp_path_factory.mktemp("text") / "corpus.txt")


FIXED = {"text.vocabulary": 600, "text.held_out": 0.2, "data.max_length": 64, "data.packs_per_step": 3, "max_steps": 4,
         "eval_every": 2, "optim.lr": 0.01, "optim.warmup": 0, "seed": 1}  # fmt: skip


def train(run: Path, text: Path, objective: str, *more: str) -> list[dict]:
    """Lines of metrics.jsonl of a run from random weights."""
    given = {"from_config": corpora.write_config(run.parent, KINDS[objective]), "tokenizer": "train"}
    return go(run, text, objective, *(w for k, v in given.items() for w in (f"--{k}", str(v))), *more)


def go(run: Path, text: Path, objective: str, *more: str) -> list[dict]:
    fixed = {"output_dir": run, "objective.name": objective, "text.files": text, **FIXED}
    pretrain.main(config.parse(pretrain.Config, [w for k, v in fixed.items() for w in (f"--{k}", str(v))] + list(more)))
    return [json.loads(line) for line in (run / "metrics.jsonl").open()]


def losses(lines: list[dict], kind: str = "train") -> list[float]:
    return [line["loss"] for line in lines if line["kind"] == kind]


PINNED = {  # a change here is a change of what users' runs compute: say why in the commit
    "causal_lm": ([5.91273, 5.74093, 5.31599, 5.09474], [5.34345, 5.06943]),
    "masked_lm": ([4.70217, 4.66553, 4.3053, 4.13029], [4.30792, 4.09356]),
    "denoising": ([6.73325, 6.05971, 5.73655, 6.0153], [5.84437, 5.70716]),
}


@pytest.mark.parametrize("objective", KINDS)
def test_losses_are_pinned(objective, tmp_path, text):
    lines = train(tmp_path / "run", text, objective)
    steps, held_out = PINNED[objective]
    assert losses(lines) == pytest.approx(steps, rel=1e-4)
    assert losses(lines, "eval") == pytest.approx(held_out, rel=1e-4)


@pytest.mark.parametrize("objective", KINDS)
def test_a_resume_ends_in_the_same_bits(objective, tmp_path, text):
    more = ["--checkpoint.every", "1", "--checkpoint.keep", "9"]
    more += [] if objective == "causal_lm" else ["--regularize.dropout", "0.1"]
    whole = train(tmp_path / "run", text, objective, *more)
    kept = checkpoint.read(tmp_path / "run" / "checkpoints" / "step-00000004")
    for later in (3, 4):  # as if killed after step 2
        shutil.rmtree(tmp_path / "run" / "checkpoints" / f"step-{later:08d}")
    resumed = train(tmp_path / "run", text, objective, *more, "--resume")
    assert losses(resumed) == losses(whole)
    assert losses(resumed, "eval") == losses(whole, "eval")
    again = checkpoint.read(tmp_path / "run" / "checkpoints" / "step-00000004")
    assert all(torch.equal(kept[name], again[name]) for name in kept)


@pytest.mark.parametrize("objective", KINDS)
def test_micro_batches_change_no_loss(objective, tmp_path, text):
    one, three = (
        train(tmp_path / n, text, objective, "--data.packs_per_micro_batch", n, "--regularize.dropout", "0")
        if objective != "causal_lm"
        else train(tmp_path / n, text, objective, "--data.packs_per_micro_batch", n)
        for n in ("1", "3")
    )
    assert [m["targets"] for m in one] == [m["targets"] for m in three]
    assert losses(one) == pytest.approx(losses(three), rel=1e-4)
    assert losses(one, "eval") == pytest.approx(losses(three, "eval"), rel=1e-4)


def test_a_pretrained_model_is_continued_and_its_tokenizer_kept(tmp_path, text):
    train(tmp_path / "first", text, "masked_lm")
    first = tmp_path / "first" / "model"
    lines = go(tmp_path / "second", text, "masked_lm", "--model", str(first), "--max_steps", "1")
    assert losses(lines)[0] < 4.5  # random weights: 4.7, the logarithm of 108 entries
    assert AutoTokenizer.from_pretrained(tmp_path / "second" / "model").mask_token == "[MASK]"
    assert AutoModelForMaskedLM.from_pretrained(tmp_path / "second" / "model").config.vocab_size > 100


def test_the_tokenizer_of_the_result_is_the_one_it_began_with(tmp_path, text):
    train(tmp_path / "first", text, "masked_lm", "--max_steps", "1")
    begun = tmp_path / "first" / "model"
    told = json.loads((begun / "tokenizer_config.json").read_text())
    (begun / "tokenizer_config.json").write_text(json.dumps({**told, "tokenizer_class": "BertTokenizer"}))
    go(tmp_path / "second", text, "masked_lm", "--model", str(begun), "--max_steps", "1")
    assert (tmp_path / "second" / "model" / "tokenizer.json").read_bytes() == (begun / "tokenizer.json").read_bytes()


def test_a_model_from_a_configuration_fits_its_tokenizer(tmp_path, text):
    train(tmp_path / "run", text, "denoising", "--max_steps", "1")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    found = AutoConfig.from_pretrained(tmp_path / "run" / "model")
    assert found.vocab_size == len(tokenizer)
    assert found.decoder_start_token_id == found.pad_token_id == tokenizer.pad_token_id
    assert found.eos_token_id == tokenizer.eos_token_id
    assert tokenizer.decode(tokenizer("The cat sees.").input_ids) == "The cat sees."


def test_the_tokenizer_of_another_model_can_be_taken(tmp_path, text, tiny_folder):
    given = ["--from_config", str(corpora.write_config(tmp_path, "decoder")), "--tokenizer", str(tiny_folder)]
    go(tmp_path / "run", text, "causal_lm", *given, "--max_steps", "1")
    ours, theirs = (AutoTokenizer.from_pretrained(f) for f in (tmp_path / "run" / "model", tiny_folder))
    assert ours.get_vocab() == theirs.get_vocab()


def test_held_out_documents_are_not_trained_on(tmp_path, text):
    train(tmp_path / "run", text, "causal_lm", "--max_steps", "1")
    train_rows, held_out = (
        store.read(tmp_path / "run" / "data" / s).column("source").to_pylist() for s in ("train", "eval")
    )
    assert held_out
    assert not set(train_rows) & set(held_out)


def test_a_longer_run_learns(tmp_path, text):
    lines = train(
        tmp_path / "run", text, "masked_lm", "--max_steps", "60", "--eval_every", "30", "--regularize.dropout", "0"
    )
    assert losses(lines, "eval")[-1] < 4.0 < losses(lines)[0]


REFUSED = [
    ("causal_lm", ["--from_config", "encoder.json", "--tokenizer", "train"], ConfigError, "objective.name masked_lm"),
    ("masked_lm", ["--from_config", "decoder.json", "--tokenizer", "train"], ConfigError, "objective.name causal_lm"),
    ("denoising", ["--from_config", "encoder.json", "--tokenizer", "train"], ConfigError, "is an encoder; set objective.name"),
    ("denoising", ["--compute.compile", "True"], ConfigError, "compute.compile: batches of denoising differ in shape"),
    ("classification", [], ConfigError, "objective.name classification: is for heads .*; those are causal_lm"),
    ("masked_lm", ["--from_config", "encoder.json"], ConfigError, "set tokenizer too"),
    ("masked_lm", ["--tokenizer", "train"], ConfigError, "set from_config"),
    ("masked_lm", ["--model", "TINY"], ConfigError, "objective.name causal_lm"),
    ("causal_lm", ["--model", "TINY", "--text.files", "one.txt", "--text.held_out", "0"], ConfigError, "fill one pack of 64"),
    ("causal_lm", ["--model", "TINY", "--text.files", "one.txt"], DataError, "no document of 1 is left for"),
    ("causal_lm", ["--model", "TINY", "--text.files", "empty.txt"], DataError, "empty.txt"),
    ("masked_lm", ["--from_config", "encoder.json", "--tokenizer", "train", "--text.files", "empty.txt"], DataError, "empty"),
    ("causal_lm", ["--model", "TINY", "--text.held_out", "1"], ConfigError, "text.held_out 1"),
    ("masked_lm", ["--from_config", "encoder.json", "--tokenizer", "TINY"], ConfigError, "has no mask token"),
    ("masked_lm", ["--from_config", "encoder.json", "--tokenizer", "train", "--objective.rate", "1"], ConfigError, "rate 1"),
]  # fmt: skip


@pytest.mark.parametrize(("objective", "more", "error", "said"), REFUSED)
def test_what_cannot_run_is_refused_with_what_to_do(objective, more, error, said, tmp_path, tiny_folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for kind in KINDS.values():
        corpora.write_config(tmp_path, kind)
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "one.txt").write_text("One sentence.\n")
    text = corpora.write_text(tmp_path / "short.txt", documents=2)
    with pytest.raises(error, match=said):
        go(tmp_path / "run", text, objective, *(str(tiny_folder) if word == "TINY" else word for word in more))
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_two_processes_hide_the_same_and_give_the_losses_of_one(tmp_path, text):
    more = ["--regularize.dropout", "0"]
    one = train(tmp_path / "one", text, "masked_lm", *more)
    told = {"from_config": tmp_path / "encoder.json", "tokenizer": "train", "output_dir": tmp_path / "two",
            "objective.name": "masked_lm", "text.files": text, **FIXED}  # fmt: skip
    command = [sys.executable, "-m", "nlpft.cli", "train", "--cpu", "--num_processes", "2", "pretrain"]
    words = [w for k, v in told.items() for w in (f"--{k}", str(v))]
    subprocess.run([*command, *words, *more], check=True, capture_output=True, timeout=300)
    two = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").open()]
    assert [m["targets"] for m in two] == [m["targets"] for m in one]
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    assert losses(two, "eval") == pytest.approx(losses(one, "eval"), rel=1e-4)


def test_a_resume_on_other_text_is_refused(tmp_path, text, tiny_folder):
    shutil.copy(text, tmp_path / "own.txt")
    more = ["--model", str(tiny_folder), "--max_steps", "1", "--text.held_out", "0"]
    go(tmp_path / "run", tmp_path / "own.txt", "causal_lm", *more)
    (tmp_path / "own.txt").write_text(corpora.sentences(400))
    with pytest.raises(ConfigError, match="converted anew"):
        go(tmp_path / "run", tmp_path / "own.txt", "causal_lm", *more, "--resume")
