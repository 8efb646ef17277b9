"""Scores of nlpft and of lm-eval's own HFLM on real benchmarks: log-likelihoods, accuracies and perplexities must be equal.

python scripts/parity_eval.py --data CORPORA --tasks hellaswag piqa --limit 100      (CORPORA holds benchmarks/ and text/)

A line for each task; exit code 1 where log-likelihoods differ by 1e-3 or more, an accuracy at all, or a perplexity by 1e-4 of it.
"""

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]


def flat(resps: Any) -> list[float]:
    """Log-likelihoods in a sample's `resps`."""
    return [float(x[0]) if isinstance(x, (list, tuple)) else float(x) for choice in resps for x in choice]


def compare(ours: dict[str, Any], theirs: dict[str, Any], name: str) -> dict[str, Any]:
    """The largest differences of two outputs of lm-eval on one task."""
    pairs = zip(ours["samples"][name], theirs["samples"][name], strict=True)
    apart = max(abs(a - b) for x, y in pairs for a, b in zip(flat(x["resps"]), flat(y["resps"]), strict=True))
    scores = {
        key: (value, theirs["results"][name][key])
        for key, value in ours["results"][name].items()
        if isinstance(value, float) and "stderr" not in key
    }
    equal = all(
        abs(a - b) <= 1e-4 * abs(b) if "perplexity" in k or "bits" in k else a == b for k, (a, b) in scores.items()
    )
    rolling = any("perplexity" in key for key in scores) and "acc,none" not in scores
    return {"task": name, "apart": apart, "scores": scores, "equal": equal and (rolling or apart < 1e-3)}


def run(model: Any, tokenizer: Any, task: dict[str, Any], limit: int, batch_size: int) -> dict[str, Any]:
    """What both say of one task, and the CPU time of each."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from nlpft.evaluation.language_model import PackedLM

    found, took = [], []
    for lm in (PackedLM(model, tokenizer), HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)):
        start = time.process_time()
        manager = TaskManager(include_defaults=False)
        found.append(
            lm_eval.simple_evaluate(lm, tasks=[dict(task)], task_manager=manager, limit=limit, bootstrap_iters=0)
        )
        took.append(time.process_time() - start)
    compared = compare(*found, task["task"])
    return {**compared, "items": len(found[0]["samples"][task["task"]]), "cpu_s": took}


def main() -> int:
    from bench import benchmarks

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--batch_size", type=int, default=8)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    from nlpft.models.load import load_model, load_tokenizer

    model, tokenizer = load_model(options.model, "float32").eval(), load_tokenizer(options.model)
    equal = True
    with tempfile.TemporaryDirectory() as cache:
        import datasets

        datasets.config.HF_DATASETS_CACHE = Path(cache)
        for name, task in benchmarks.tasks(options.data).items():
            if name in (options.tasks or [name]):
                row = run(model, tokenizer, task, options.limit, options.batch_size)
                equal = equal and row["equal"]
                print(json.dumps(row), flush=True)
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
