"""verify-resume on two processes: all of them are killed, and what counts is the rows of each step."""

import json

import psutil
import tiny

from nlpft import cli
from nlpft.commands import verify_resume


def test_two_processes_are_killed_whole_and_go_on_with_the_same_rows(tmp_path, capfd):
    model = tiny.save_model(tmp_path / "tiny")
    rows = [tiny.chat("word " * (1 + n % 9), f"reply {n} " * (1 + n % 7)) for n in range(20)]
    words = [str(tiny.write_json(tmp_path / "rows.json", rows)), "-o", str(tmp_path / "data"), "--model", str(model)]
    assert cli.main(["convert", *words]) == 0
    fixed = {"model": model, "data.train": tmp_path / "data", "data.max_length": 128, "tuning.dropout": 0.1}
    settings = [str(word) for key, value in fixed.items() for word in (f"--{key}", value)]
    assert cli.main(["verify-resume", "--cpu", "--num_processes", "2", "sft", *settings]) == 0
    said = capfd.readouterr().out
    assert "equal, bit for bit" in said or "the same rows in the same steps" in said
    left = [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path / "data") in (p.info["cmdline"] or [])]
    assert left == []


def test_other_rows_are_no_rounding(tmp_path):
    for name, targets in (("one", 5), ("two", 6)):
        (tmp_path / name).mkdir()
        line = {"kind": "train", "step": 1, "targets": targets, "tokens": 9, "lr": 0.1, "loss": 2.0}
        (tmp_path / name / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert verify_resume.apart(tmp_path / "one", tmp_path / "two") == float("inf")
    assert verify_resume.apart(tmp_path / "one", tmp_path / "one") == 0
