"""Heads beside a plain transformers.Trainer script, in turns: examples a second in training, and test scores, over seeds.

python scripts/bench_heads.py --data CORPORA --model MINILM --jobs sst2 trec wnut17 --seeds 3

Both train all weights with AdamW at one rate that falls along a line, for the same rows, batches and epochs; nlpft's head has ten
times the rate, as by default. Products in float32, and in bfloat16 with weights and moments in float32 (-bf16), for which a CPU
needs instructions. On a shared machine seconds of the processors say more than those of the clock.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.head_jobs import JOBS, Row, write

HERE = Path(__file__).resolve().parent
MEASURE = {"classify": "accuracy", "tag": "f1"}


def main() -> None:
    args = arguments()
    args.work.mkdir(parents=True, exist_ok=True)
    for job in args.jobs:
        train, test = JOBS[job].load(args.data)
        show(job, MEASURE[JOBS[job].recipe], side_by_side(args, job, train, test))


def side_by_side(
    args: argparse.Namespace, job: str, train: list[Row], test: list[Row]
) -> dict[str, list[dict[str, Any]]]:
    """What each suite's runs gave, a seed after the other, the two in turns."""
    found: dict[str, list[dict[str, Any]]] = {suite: [] for suite in args.suites}
    for seed in range(args.seeds):
        chosen = drawn(train, args.rows, seed)
        files = [
            write(part, args.work / f"{job}-{seed}-{name}.jsonl")
            for name, part in (("train", chosen), ("test", test[: args.test]))
        ]
        for suite in found:
            done = SUITES[suite](args, job, seed, *files)
            count = len(chosen) * args.epochs
            rates = {"per_second": count / done["seconds"], "per_cpu_second": count / done["computing"]}
            found[suite].append({**done, **rates, "score": done["scores"][MEASURE[JOBS[job].recipe]]})
            print(
                json.dumps({"job": job, "suite": suite, "seed": seed, "load": os.getloadavg()[0], **found[suite][-1]}),
                flush=True,
            )
    return found


def drawn(rows: list[Row], count: int | None, seed: int) -> list[Row]:
    return rows if not count or count >= len(rows) else random.Random(seed).sample(rows, count)


def spread(scores: list[float]) -> dict[str, float]:
    """Mean, and its 95 % interval's half (1.96 standard errors)."""
    error = statistics.stdev(scores) / len(scores) ** 0.5 if len(scores) > 1 else 0.0
    return {"mean": round(statistics.mean(scores), 4), "interval": round(1.96 * error, 4)}


def run_nlpft(args: argparse.Namespace, job: str, seed: int, train: Path, test: Path, *more: str) -> dict[str, Any]:
    data = args.work / f"{train.stem}-data"
    label = [
        "-m",
        "nlpft",
        "label",
        f"train={train}",
        f"test={test}",
        "-o",
        data,
        "-m",
        args.model,
        "--overwrite",
        "--max_rejected",
        "1",
    ]
    called([*label])
    output = args.work / f"{train.stem}-{'-'.join(more) or 'run'}".replace("--", "")
    subprocess.run(["rm", "-rf", str(output)], check=True)
    words = ["--recipe", JOBS[job].recipe, "--data", data, "--output", output]
    done = called([HERE / "bench/heads_with_nlpft.py", *words, *common(args, seed), *more])
    subprocess.run(["rm", "-rf", str(output)], check=True)
    return json.loads(done.splitlines()[-1])


def run_trainer(args: argparse.Namespace, job: str, seed: int, train: Path, test: Path, *more: str) -> dict[str, Any]:
    words = ["--recipe", JOBS[job].recipe, "--train", train, "--test", test, "--output", args.work / "trainer", *more]
    return json.loads(called([HERE / "bench/heads_with_trainer.py", *words, *common(args, seed)]).splitlines()[-1])


SUITES: dict[str, Callable[..., dict[str, Any]]] = {
    "trainer": run_trainer,
    "nlpft": run_nlpft,
    "trainer-bf16": lambda *args: run_trainer(*args, "--bf16"),
    "nlpft-bf16": lambda *args: run_nlpft(*args, "--dtype", "bfloat16"),
}

PAIRS = (("nlpft", "trainer"), ("nlpft-bf16", "trainer-bf16"), ("nlpft-bf16", "trainer"))


def common(args: argparse.Namespace, seed: int) -> list[Any]:
    return ["--model", args.model, "--seed", seed, "--epochs", args.epochs, "--batch", args.batch, "--lr", args.lr]


def called(words: list[Any]) -> str:
    """Output of a Python process. Raises RuntimeError with the end of what it said where it fails."""
    path = os.pathsep.join(filter(None, (str(HERE.parent), os.environ.get("PYTHONPATH"))))
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": path}
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, env=env)
    if done.returncode:
        raise RuntimeError(f"{words[0]} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def show(job: str, measure: str, found: dict[str, list[dict[str, Any]]]) -> None:
    """The comparison as one line of JSON."""
    sides = {suite: spread([run["score"] for run in runs]) for suite, runs in found.items()}
    rate = {
        suite: {
            name: round(statistics.median(run[name] for run in runs), 1) for name in ("per_second", "per_cpu_second")
        }
        for suite, runs in found.items()
    }
    times = {
        f"{suite} beside {peer}": {name: round(rate[suite][name] / rate[peer][name], 2) for name in rate[suite]}
        for suite, peer in PAIRS
        if suite in rate and peer in rate
    }
    print(json.dumps({"job": job, "measure": measure, "scores": sides, "examples": rate, "times": times}), flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with classification/ and tagging/")
    parser.add_argument("--model", required=True, help="encoder, such as all-MiniLM-L6-v2")
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=0, help="rows to train on; 0: all")
    parser.add_argument("--test", type=int, default=None, help="rows to test on, at most")
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--suites", nargs="+", choices=list(SUITES), default=list(SUITES))
    parser.add_argument("--work", type=Path, default=Path("build/bench_heads"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
