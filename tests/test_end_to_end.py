"""The main job on the real SmolLM2-135M-Instruct: samples in, adapter out, held-out rows better with proof."""

import json
from pathlib import Path

import sft

from nlpft import cli, config
from nlpft.evaluation import compare

SAMPLES = Path(__file__).parent.parent / "recipes" / "samples"


def test_a_few_steps_teach_the_samples_skill(tmp_path, smollm2, capsys):
    train = [str(SAMPLES / name) for name in ("train_sharegpt.json", "train_alpaca.jsonl")]
    assert cli.main(["convert", *train, "-o", str(tmp_path / "train"), "--model", str(smollm2)]) == 0
    rows = json.loads((SAMPLES / "heldout.json").read_text())[:16]
    (tmp_path / "heldout.json").write_text(json.dumps(rows))
    run = tmp_path / "run"
    words = [
        "--model",
        str(smollm2),
        "--data.train",
        str(tmp_path / "train"),
        "--output_dir",
        str(run),
        "--max_steps",
        "8",
    ]
    words += ["--data.max_length", "256", "--data.packs_per_step", "1", "--optim.lr", "2e-3", "--tuning.rank", "8"]
    sft.main(config.parse(sft.Config, words))
    losses = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").open()]
    assert losses[0] > 2
    assert losses[-1] < 0.7
    for model, label in ((str(smollm2), "base"), (str(run), "adapter")):
        out = str(run / "eval" / label)
        assert cli.main(["eval", model, "--heldout", str(tmp_path / "heldout.json"), "-o", out]) == 0
    base, adapter = (compare.read(run / "eval" / label) for label in ("base", "adapter"))
    match = {c.metric: c for c in compare.compare(base, adapter)}["exact_match"]
    assert match.base < 0.15
    assert match.other > match.base + 0.2
    assert match.low > 0
    assert cli.main(["compare", str(run / "eval" / "base"), str(run / "eval" / "adapter")]) == 0
    assert "better" in capsys.readouterr().out
    assert cli.main(["report", str(run)]) == 0
