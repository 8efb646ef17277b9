"""scripts/bench_eval.py: it runs, and what it prints is whether both gave the same answers, and how fast."""

import json
import subprocess
import sys
from pathlib import Path

import tiny

SCRIPT = Path(__file__).parents[1] / "scripts" / "bench_eval.py"


def test_both_answer_the_same_questions(tmp_path, tiny_folder):
    rows = [
        {
            "activity_label": "word",
            "ctx_a": f"reply {n} [title] 1.",
            "ctx_b": "how",
            "endings": list("ab1d"),
            "label": "1",
        }
        for n in range(5)
    ]
    tiny.write_jsonl(tmp_path / "hellaswag_val_1000.jsonl", rows)
    words = ["--data", tmp_path, "--model", tiny_folder, "--jobs", "hellaswag", "hellaswag-5", "--questions", 3]
    words += ["--batch_sizes", 2, 3, "--rounds", 2]
    done = subprocess.run([sys.executable, SCRIPT, *map(str, words)], capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [row["job"] for row in found] == ["hellaswag", "hellaswag-5"]
    for row in found:
        assert row["planned"]
        assert row["hflm_batch_size"] in (2, 3)
        assert row["choices_that_differ"] == 0
        assert 0 < row["largest_difference"] < 1e-3
        assert row["times"] > 0
