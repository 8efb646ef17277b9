"""One run of recipes/classify.py or tag.py for bench_heads.py; prints how it went as JSON."""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "recipes")]


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("recipe", "model", "data", "output", "seed", "epochs", "batch", "lr"):
        parser.add_argument(f"--{name}", required=True)
    args, more = parser.parse_known_args()
    begun = time.process_time()
    recipe = __import__(args.recipe)
    from nlpft import config

    took: dict[str, float] = {}
    recipe.attended = timed(recipe.attended, took)
    words = {"model": args.model, "data.train": f"{args.data}/train", "data.test": f"{args.data}/test",
             "data.rows_per_step": args.batch, "epochs": args.epochs, "seed": args.seed, "optim.lr": args.lr,
             "output_dir": args.output, "checkpoint.every": "0"}  # fmt: skip
    recipe.main(config.parse(recipe.Config, [x for key, value in words.items() for x in (f"--{key}", value)] + more))
    found = json.loads((Path(args.output) / "eval/test/results.json").read_text())["results"]
    (scores,) = found.values()
    values = {name.partition(",")[0]: value for name, value in scores.items()}
    print(json.dumps({**took, "whole": time.process_time() - begun, "scores": values}))


def timed(attended: Any, took: dict[str, float]) -> Any:
    """`attended`, which notes seconds of the clock and of the processors from the first step to behind the last one."""

    @contextlib.contextmanager
    def measured(run: Any) -> Iterator[Any]:
        clock, computing = time.perf_counter(), time.process_time()

        def noted(steps: Iterator[Any]) -> Iterator[Any]:
            for step in steps:
                took.update(seconds=time.perf_counter() - clock, computing=time.process_time() - computing)
                yield step

        with attended(run) as steps:
            yield noted(steps)

    return measured


if __name__ == "__main__":
    main()
