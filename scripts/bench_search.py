"""Trials an hour: a search with shared model, rows and features, beside one run of recipes/classify.py for each candidate.

nlpft label train=TRAIN eval=EVAL test=TEST -o DATA -m MINILM
python scripts/bench_search.py --data DATA --model MINILM --budget 30 --runs 3

Both train the same masks on the same rows for as many epochs; the search may prune, which is part of what it is for, and is
measured without it too. On a shared machine seconds of the processors say more than those of the clock; both are shown.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Spent(NamedTuple):
    """Seconds of a process: by the clock, and of the processors."""

    clock: float
    computing: float


def main() -> None:
    args = arguments()
    args.work.mkdir(parents=True, exist_ok=True)
    data = [word for name in ("train", "eval", "test") for word in (f"--data.{name}", str(args.data / name))]
    common = ["--model", str(args.model), *data, "--epochs", str(args.epochs)]
    found = {"pruned": search(args, common, []), "whole": search(args, common, ["--no_prune"])}
    masks = json.loads((args.work / "whole/result.json").read_text())["candidates"][: args.runs]
    spent = [classify(args, common, number, point) for number, point in enumerate(masks)]
    found["classify"] = rates(Spent(*(sum(part) for part in zip(*spent, strict=True))), len(spent))
    for name, one in found.items():
        times = one["per_cpu_hour"] / found["classify"]["per_cpu_hour"]
        print(
            f"{name:9} {one['per_hour']:8.0f} trials an hour, {one['per_cpu_hour']:8.0f} an hour of computing, x {times:.1f}"
        )
    print(json.dumps(found))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of `nlpft label` with train, eval and test")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/bench_search"))
    parser.add_argument("--budget", type=int, default=30, help="candidates of the search")
    parser.add_argument("--runs", type=int, default=3, help="runs of classify.py")
    parser.add_argument("--epochs", type=float, default=2.0)
    return parser.parse_args()


def search(args: argparse.Namespace, common: list[str], more: list[str]) -> dict[str, float]:
    """Trials an hour of a search, its start included, its final trainings not."""
    folder = args.work / ("whole" if more else "pruned")
    words = [*common, "--output_dir", str(folder), "--budget", str(args.budget), "--retrain", "0", *more]
    return rates(timed("search_layers", words), args.budget)


def classify(args: argparse.Namespace, common: list[str], number: int, point: dict[str, Any]) -> Spent:
    """What one run of classify.py takes that trains what a candidate does."""
    blocks = [int(name.partition(".")[2]) for name, kept in point.items() if name[5:].isdigit() and not kept]
    patterns = [f"*.layer.{block}.*" for block in blocks] + ["*.embeddings.*"] * (not point["keep.embeddings"])
    tuning = ["--tuning.name", "head_only"]
    if patterns:
        tuning = ["--tuning.name", "freeze", "--tuning.train_last", "0", "--tuning.patterns", *patterns]
    return timed("classify", [*common, "--output_dir", str(args.work / f"classify-{number}"), *tuning])


def timed(recipe: str, words: list[str]) -> Spent:
    """What a recipe takes as a process of its own."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    script = ROOT / "recipes" / f"{recipe}.py"
    done = subprocess.run([sys.executable, str(script), *words], env=dict(os.environ), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{recipe} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    computing = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(time.perf_counter() - begun, computing)


def rates(spent: Spent, trials: int) -> dict[str, float]:
    return {"per_hour": 3600 * trials / spent.clock, "per_cpu_hour": 3600 * trials / spent.computing}


if __name__ == "__main__":
    main()
