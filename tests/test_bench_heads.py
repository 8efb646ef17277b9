"""scripts/bench_heads.py: both suites train on the same rows, and it prints how fast and how well; and so for each policy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_heads

SCRIPT = Path(__file__).parents[1] / "scripts" / "bench_heads.py"


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora")
    (folder / "classification").mkdir()
    for name, seed in (("stsa.binary.train", 0), ("stsa.binary.test", 1)):
        lines = [f"{label} {text}\n" for label, text in tiny_heads.texts(20, seed)]
        (folder / "classification" / name).write_text("".join(lines), encoding="utf-8")
    return folder


def run(corpora, work, *more):
    bert = tiny_heads.save_bert(work / "bert")
    words = [
        "--data",
        corpora,
        "--model",
        bert,
        "--jobs",
        "sst2",
        "--epochs",
        1,
        "--batch",
        8,
        "--work",
        work / "w",
        *more,
    ]
    done = subprocess.run([sys.executable, SCRIPT, *map(str, words)], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_both_suites_are_measured_on_the_same_rows(corpora, tmp_path):
    *runs, table = run(corpora, tmp_path, "--seeds", 1, "--rows", 16)
    assert [(row["suite"], row["seed"]) for row in runs] == [("trainer", 0), ("nlpft", 0)]
    assert all(0 <= row["score"] <= 1 and row["seconds"] > 0 for row in runs)
    assert table["times"]["per_second"] > 0
    assert table["scores"].keys() == {"trainer", "nlpft"}


def test_policies_are_compared_on_the_same_rows(corpora, tmp_path):
    rows = run(corpora, tmp_path, "--seeds", 1, "--rows", 8, 16, "--policies", "head_only", "full")
    assert [(row["rows"], row["policy"]) for row in rows] == [
        (8, "head_only"),
        (8, "full"),
        (16, "head_only"),
        (16, "full"),
    ]
