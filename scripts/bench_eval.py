"""lm-eval's requests answered by nlpft and by HFLM, side by side on one model: questions a second, and whether they agree.

python scripts/bench_eval.py --data BENCHMARKS --jobs hellaswag hellaswag-5 --questions 100 --model smollm2-135m
python scripts/bench_eval.py --data BENCHMARKS --jobs hellaswag --questions 1000 --model_shape 1b     (random weights, on a GPU)

BENCHMARKS holds hellaswag_val_1000.jsonl, gsm8k_test.jsonl and gsm8k_train.jsonl. HFLM runs once with each of --batch_sizes, then
in every round with the best of them; the two take turns. On a shared machine seconds of CPU say more than those of the clock.
"""

import argparse
import json
import logging
import os
import random
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from nlpft.evaluation.language_model import PackedLM
from nlpft.models.load import load_model, load_tokenizer

DRAWN_FROM = 500  # last rows of a file, from which solved examples are drawn: as lm-eval does, anew for each question
UNTIL = ["Question:", "</s>", "<|im_end|>"]


class Took(NamedTuple):
    """One run."""

    seconds: float
    cpu: float  # seconds of all threads
    answers: list[Any]


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def clean(text: str) -> str:
    """HellaSwag's texts as lm-eval shows them."""
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ")


def hellaswag(data: Path, count: int, shots: int) -> list[Instance]:
    def question(row: dict[str, Any]) -> str:
        return clean(f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}")

    found, draw = rows(data / "hellaswag_val_1000.jsonl"), random.Random(1)
    made = []
    for row in found[:count]:
        solved = draw.sample(found[-DRAWN_FROM:], shots)
        shown = "".join(f"{question(r)} {clean(r['endings'][int(r['label'])])}\n\n" for r in solved)
        made += [
            Instance("loglikelihood", row, (shown + question(row), " " + clean(ending)), i)
            for i, ending in enumerate(row["endings"])
        ]
    return made


def gsm8k(data: Path, count: int, shots: int, fixed: bool = False) -> list[Instance]:
    train, draw = rows(data / "gsm8k_train.jsonl"), random.Random(1)
    made = []
    for row in rows(data / "gsm8k_test.jsonl")[:count]:
        solved = train[:shots] if fixed else draw.sample(train, shots)
        shown = "".join(f"Question: {r['question']}\nAnswer: {r['answer']}\n\n" for r in solved)
        settings = {"until": UNTIL, "do_sample": False, "temperature": 0.0, "max_gen_toks": MOST}
        made.append(Instance("generate_until", row, (f"{shown}Question: {row['question']}\nAnswer:", settings), 0))
    return made


MOST = 256  # tokens of an answer, lm-eval's default
JOBS: dict[str, Callable[[Path, int], list[Instance]]] = {
    "hellaswag": lambda data, count: hellaswag(data, count, 0),
    "hellaswag-5": lambda data, count: hellaswag(data, count, 5),
    "gsm8k": lambda data, count: gsm8k(data, count, 0),
    "gsm8k-5": lambda data, count: gsm8k(data, count, 5),
    "gsm8k-8-fixed": lambda data, count: gsm8k(data, count, 8, fixed=True),
}


def timed(model: Any, requests: list[Instance]) -> Took:
    sync = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    sync()
    start, cpu = time.perf_counter(), time.process_time()
    answers = getattr(model, requests[0].request_type)(requests, disable_tqdm=True)
    sync()
    return Took(time.perf_counter() - start, time.process_time() - cpu, answers)


def compare(ours: list[Any], theirs: list[Any]) -> dict[str, Any]:
    """How far the answers are from each other."""
    if isinstance(ours[0], str):
        return {"answers_that_differ": sum(a != b for a, b in zip(ours, theirs, strict=True))}
    apart = max(abs(a[0] - b[0]) for a, b in zip(ours, theirs, strict=True))
    chosen = [[max(range(4), key=lambda i: part[i][0]) for part in _fours(x)] for x in (ours, theirs)]
    return {"largest_difference": apart, "choices_that_differ": sum(a != b for a, b in zip(*chosen, strict=True))}


def _fours(answers: list[Any]) -> list[list[Any]]:
    return [answers[i : i + 4] for i in range(0, len(answers), 4)]


def run(model: Any, tokenizer: Any, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Times of one job."""
    requests = JOBS[name](options.data, options.questions)
    packed = PackedLM(model, tokenizer)
    peers = {size: HFLM(pretrained=model, tokenizer=tokenizer, batch_size=size) for size in options.batch_sizes}
    for lm in (packed, *peers.values()):
        timed(lm, requests[:4])  # the first call is slower
    tried = {size: timed(lm, requests) for size, lm in peers.items()}
    best = min(tried, key=lambda size: tried[size].cpu if options.by_cpu else tried[size].seconds)
    ours: list[Took] = []
    theirs = [tried[best]]
    for number in range(options.rounds):
        packed = PackedLM(model, tokenizer)  # with no answers kept
        ours.append(timed(packed, requests))
        if number:
            theirs.append(timed(peers[best], requests))
    seconds, cpu = (
        [statistics.median(getattr(t, key) for t in x) for x in (ours, theirs)] for key in ("seconds", "cpu")
    )
    return {
        "job": name,
        "questions": options.questions,
        "nlpft_per_s": options.questions / seconds[0],
        "hflm_per_s": options.questions / seconds[1],
        "hflm_batch_size": best,
        "times": seconds[1] / seconds[0],
        "times_by_cpu": cpu[1] / cpu[0],
        "planned": packed.planned,
        **compare(ours[-1].answers, theirs[-1].answers),
    }


def load(options: argparse.Namespace) -> tuple[Any, Any]:
    tokenizer = load_tokenizer(options.model)
    if not options.model_shape:
        return load_model(options.model, "float32" if not torch.cuda.is_available() else "bfloat16").eval(), tokenizer
    from bench_train import Job, make_model

    return make_model(Job(options.model_shape, "full", "", 1), "sdpa", torch.cuda.is_available()).eval(), tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=["hellaswag", "hellaswag-5"])
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--model", default="smollm2-135m", help="its tokenizer is used with --model_shape, too")
    parser.add_argument("--model_shape", help="random weights of this shape in scripts/bench_train.py")
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--by_cpu", action="store_true", help="HFLM's best batch size is that of the least CPU time")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(options.threads or torch.get_num_threads())
    model, tokenizer = load(options)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    for name in options.jobs:
        print(json.dumps(run(model, tokenizer, name, options)), flush=True)


if __name__ == "__main__":
    main()
