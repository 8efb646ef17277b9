"""Trials an hour: a search with shared model, rows and features, beside one run of recipes/classify.py for each candidate.

nlpft label train=TRAIN eval=EVAL test=TEST -o DATA -m MINILM
python scripts/bench_search.py --data DATA --model MINILM --budget 30 --runs 3

Both train the same masks on the same rows for as many epochs; the search may prune, which is part of what it is for, and is
measured without it too, where the scores at the rungs say what pruning would have lost: their rank correlation with those at the
end, and the place that the best candidate had. On a shared machine seconds of the processors say more than those of the clock;
both are shown.
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

import numpy as np
import optuna
from scipy.stats import spearmanr

ROOT = Path(__file__).resolve().parents[1]


class Spent(NamedTuple):
    """Seconds of a process: by the clock, and of the processors."""

    clock: float
    computing: float


def main() -> None:
    args = arguments()
    args.work.mkdir(parents=True, exist_ok=True)
    data = [word for name in ("train", "eval") for word in (f"--data.{name}", str(args.data / name))]
    fixed = {"model": args.model, "epochs": args.epochs, "data.rows_per_step": args.rows_per_step, "optim.lr": args.lr,
             "dtype": args.dtype}  # fmt: skip
    common = [*data, *(word for name, value in fixed.items() for word in (f"--{name}", str(value)))]
    found = {"pruned": search(args, common, args.budget, [])}
    print("pruned", found["pruned"], flush=True)
    masks = [trial.params for trial in trials(args.work / "pruned/search.db")[: args.runs]]  # drawn at random
    spent = [classify(args, common, number, point) for number, point in enumerate(masks)]
    found["classify"] = rates(Spent(*(sum(part) for part in zip(*spent, strict=True))), len(spent))
    print("classify", found["classify"], flush=True)
    if args.whole:
        found["whole"] = search(args, common, args.whole, ["--no_prune"])
        for step, correlation, place in at_rungs(trials(args.work / "whole/search.db")):
            print(f"step {step}: rank correlation with the end {correlation:.2f}; the best candidate is number {place}")
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
    parser.add_argument("--budget", type=int, default=30, help="candidates of the search that prunes")
    parser.add_argument("--whole", type=int, default=15, help="candidates of the search that does not; 0: none")
    parser.add_argument("--runs", type=int, default=3, help="runs of classify.py")
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--rows_per_step", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--more", nargs="*", default=[], help="of the search: name=value")
    return parser.parse_args()


def search(args: argparse.Namespace, common: list[str], budget: int, more: list[str]) -> dict[str, float]:
    """Trials an hour of a search, its start included, its final trainings not."""
    folder = args.work / ("whole" if more else "pruned")
    own = [word for pair in args.more for word in (f"--{pair.partition('=')[0]}", pair.partition("=")[2])]
    fixed = ["--data.test", str(args.data / "test"), "--output_dir", str(folder), "--budget", str(budget)]
    return rates(timed("search_layers", [*common, *fixed, "--retrain", "0", *own, *more]), budget)


def trials(database: Path) -> list[optuna.trial.FrozenTrial]:
    """What a search scored, in the order in which it was drawn; copies left out."""
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{database.absolute()}")
    return [trial for trial in study.trials if trial.intermediate_values]


def at_rungs(found: list[optuna.trial.FrozenTrial]) -> list[tuple[int, float, int]]:
    """For each rung of a search without pruning: its step, the rank correlation of its scores with those at the end, and which
    place there (from 1) the candidate had that was best in the end."""
    done = [trial for trial in found if trial.state == optuna.trial.TrialState.COMPLETE]
    ends = np.array([t.value for t in done])
    places = []
    for step in sorted(done[0].intermediate_values)[:-1]:
        scores = np.array([t.intermediate_values[step] for t in done])
        places.append((step, float(spearmanr(scores, ends).statistic), 1 + int((scores < scores[ends.argmin()]).sum())))
    return places


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
