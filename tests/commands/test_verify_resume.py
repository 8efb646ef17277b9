"""verify-resume on two processes: all of them are killed, and what counts is the rows of each step."""

import json

import psutil
import torch
import torch.distributed.checkpoint as dcp

from nlpft import cli
from nlpft.commands import verify_resume

# A recipe that needs no torch. Its second process waits for the first, as it would in a collective; the loss of a resumed step
# is another by argv[1], relatively. tests/recipes/test_sft.py has the real recipe on several processes.
SCRIPT = """
import json, os, shutil, sys, time
from pathlib import Path

def given(key):
    return sys.argv[sys.argv.index(key) + 1]

run, rank = Path(given("--output_dir")), os.environ["RANK"]
saved = run / "checkpoints"
newest = max(saved.glob("step-*"), default=None) if "--resume" in sys.argv else None
first = int(newest.name[-1]) if newest else 0
end = time.monotonic() + 60
while rank == "1" and not (run / f"done from {first}").exists() and time.monotonic() < end:
    time.sleep(0.01)
if rank == "0":
    saved.mkdir(parents=True, exist_ok=True)
    metrics = run / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)[:first] if first else []
    (run / "environment.json").write_text(json.dumps({"processes": int(os.environ["WORLD_SIZE"])}))
    for step in range(first + 1, int(given("--max_steps")) + 1):
        time.sleep(0.1)
        loss = 2.0 / step * (1 + (float(sys.argv[1]) if first else 0))
        lines.append(json.dumps({"kind": "train", "step": step, "targets": 5, "tokens": 9, "lr": 0.1, "loss": loss}) + "\\n")
        metrics.write_text("".join(lines))
        if step % int(given("--checkpoint.every")) == 0:
            shutil.copytree("saved", saved / "partial")
            (saved / "partial").rename(saved / f"step-{step}")
    (run / f"done from {first}").touch()
"""


def test_two_processes_are_killed_whole_and_compared_by_rows_and_rounding(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.py").write_text(SCRIPT)
    dcp.save({"weights.w": torch.ones(2)}, checkpoint_id=tmp_path / "saved", no_dist=True)
    assert cli.main(["verify-resume", "--cpu", "--num_processes", "2", str(tmp_path / "recipe.py"), "1e-7"]) == 0
    said = capfd.readouterr().out
    assert "goes on from step-2\nthe same rows in the same steps, losses within 1e-07: 2 processes" in said
    left = [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path / "recipe.py") in (p.info["cmdline"] or [])]
    assert left == []


def test_other_rows_are_no_rounding(tmp_path):
    for name, targets in (("one", 5), ("two", 6)):
        (tmp_path / name).mkdir()
        line = {"kind": "train", "step": 1, "targets": targets, "tokens": 9, "lr": 0.1, "loss": 2.0}
        (tmp_path / name / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert verify_resume.apart(tmp_path / "one", tmp_path / "two") == float("inf")
    assert verify_resume.apart(tmp_path / "one", tmp_path / "one") == 0
