"""Training steps of nlpft and of TRL side by side on random weights: tokens a second, utilisation, memory, start-up.

python scripts/bench_train.py --lengths LENGTHS_DIR --jobs 8b-lora 1b-full --suites trl nlpft

LENGTHS_DIR holds sharegpt.json and alpaca.json: lists of conversations, each a list of [learnt 0 or 1, tokens]. Each job runs
in a process of its own; tokens are real ones, without padding. TRL runs at the settings that are its fastest on a GPU: packing,
Liger, and FlexAttention (trl) or flash-attn-4 (trl-flash4, where it is installed). A suite named twice finds the second time what
was compiled the first time.
"""

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

START = time.time()
os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

SHAPES: dict[str, dict[str, Any]] = {  # of Llama's architecture
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
           "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256},
    "3b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 10, "num_attention_heads": 32,
           "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256},  # ten blocks of the 8b
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
           "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256, "tie_word_embeddings": True},
    "135m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
             "num_key_value_heads": 3, "head_dim": 64, "vocab_size": 49152, "tie_word_embeddings": True},
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 1024, "tie_word_embeddings": True},
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    shape: str
    method: str  # of nlpft/tuning
    lengths: str
    packs: int  # in a step
    micro: int = 0  # packs computed at once; 0: all of them
    keep: float = 1.0  # share of the activations that is kept
    pack: int = 4096  # tokens
    steps: int = 24


JOBS = {
    "8b-lora": Job("8b", "lora", "sharegpt", 1, steps=36),
    "8b-full": Job("8b", "full", "sharegpt", 2, keep=0.05, steps=12),
    "3b-full": Job("3b", "full", "sharegpt", 2, keep=0.3, steps=15),
    "1b-full": Job("1b", "full", "sharegpt", 8, keep=0.7),
    "1b-lora-alpaca": Job("1b", "lora", "alpaca", 8),
    "8b-lora-16k": Job("8b", "lora", "sharegpt", 4, keep=0.05, steps=12),
    "8b-lora-16k-accumulated": Job("8b", "lora", "sharegpt", 4, micro=1, steps=12),
    "135m-lora": Job("135m", "lora", "alpaca", 1, pack=1024, steps=9),
    "135m-full": Job("135m", "full", "alpaca", 1, pack=1024, steps=9),
    "tiny-lora": Job("tiny", "lora", "alpaca", 2, pack=1024, steps=6),
    "tiny-full": Job("tiny", "full", "alpaca", 2, micro=1, keep=0.5, pack=1024, steps=6),
}


def rows(folder: Path, job: Job, count: int = 1000) -> list[dict[str, list[int]]]:
    """Conversations of random tokens with real lengths, cut to a pack; those with nothing learnt are left out."""
    draw, kept = random.Random(0), []
    vocabulary = SHAPES[job.shape]["vocab_size"]
    for conversation in json.loads((folder / f"{job.lengths}.json").read_text()):
        ids = [draw.randrange(5, vocabulary) for _, n in conversation for _ in range(n)][: job.pack]
        learnt = [bool(flag) for flag, n in conversation for _ in range(n)][: job.pack]
        if any(learnt):
            kept.append({"input_ids": ids, "labels": [t if on else -100 for t, on in zip(ids, learnt, strict=True)]})
        if len(kept) == count:
            break
    return (kept * (1 + count // len(kept)))[:count]


def make_model(job: Job, attention: str, half: bool) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        **SHAPES[job.shape],
        max_position_embeddings=131072,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if half else torch.float32
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=dtype)
    torch.set_default_dtype(torch.float32)
    return model


def lengths(data: list[dict[str, list[int]]]) -> Any:
    import numpy as np

    return np.array([len(row["input_ids"]) for row in data])


def run_nlpft(job: Job, data: list[dict[str, list[int]]], options: argparse.Namespace) -> dict[str, Any]:
    import numpy as np
    import pyarrow as pa
    import torch
    from accelerate import Accelerator

    from nlpft import plugins
    from nlpft.data.columns import lists
    from nlpft.data.loader import DataConfig, PackedData, Share
    from nlpft.models.compute import ComputeConfig, compilations, compiles, prepare
    from nlpft.models.forward import check_isolation
    from nlpft.models.load import is_sharded
    from nlpft.training.distributed import prepared
    from nlpft.training.flops import per_token
    from nlpft.training.loop import OneLate, StepSettings, to_device, train_steps
    from nlpft.training.optim import OptimConfig, build_optimizer, trainable_in_float32

    cuda = torch.cuda.is_available()
    half = cuda or options.bf16
    accelerator = Accelerator(cpu=not cuda, mixed_precision="bf16" if half else None)
    tuning, objective = plugins.load("tuning", job.method), plugins.load("objectives", "causal_lm")
    model = tuning.apply(make_model(job, "sdpa", half), tuning.Config())
    flops = per_token(model, lengths(data))
    compute = ComputeConfig(
        attention=options.attention, compile=options.compile, keep_activations=job.keep, **SUITES[options.one].settings
    )
    dtype = torch.bfloat16 if half else torch.float32
    model = prepare(trainable_in_float32(model), compute, accelerator.device, dtype)
    model, optimizer = prepared(accelerator, model, build_optimizer(model, OptimConfig()), OptimConfig().max_grad_norm)
    share = Share(accelerator.process_index, accelerator.num_processes)
    packs = job.packs * share.processes  # the load of a device stays the same
    offsets = np.cumsum([0, *(len(row["input_ids"]) for row in data)])
    columns = {name: lists(np.concatenate([row[name] for row in data]), offsets) for name in ("input_ids", "labels")}
    static = compiles(compute, accelerator.device)
    packed = PackedData(Path(), job.pack, static_shapes=static, table=pa.table(columns))
    micro = job.micro or job.packs
    ready = time.time()
    off = check_isolation(model, to_device(packed.probe(SHAPES[job.shape]["vocab_size"], micro), accelerator.device))
    settings = DataConfig(max_length=job.pack, packs_per_step=packs, packs_per_micro_batch=micro)
    steps = packed.steps(settings, 0, share)
    epochs = (packed.packs(0, epoch) for epoch in itertools.count())
    cut = (epoch[i : i + packs] for epoch in epochs for i in range(0, len(epoch), packs))
    tokens = [int(sum(packed.columns.lengths[r].sum() for r in step)) for step in islice(cut, job.steps)]
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    losses: list[float] = []
    write = OneLate(lambda report: losses.append(report.loss))
    skip, marks, compiled, first = job.steps // 3 + 1, [0.0, 0.0], 0, 0.0
    step_loss = objective.build(objective.Config(), model), objective.num_targets, StepSettings(lambda step: 1e-5)
    for report in train_steps(accelerator, model, optimizer, islice(steps, job.steps), *step_loss):
        write(report, now=report.step == 1)
        first = first or time.time()
        if report.step in (skip, job.steps):
            synchronize()
            marks[report.step == job.steps] = time.time()
            compiled = compilations() if report.step == skip else compiled
    assert compilations() == compiled, f"compiled again after step {skip}: {compiled} -> {compilations()} graphs"
    result = measured(sum(tokens[skip : job.steps]), marks[1] - marks[0], flops / share.processes, options)
    result |= {"processes": share.processes, "sharded": is_sharded(model)}
    result |= {"first_step_s": round(first - START), "of_that_loading_s": round(ready - START), "graphs": compiled}
    result |= {"loss": [round(x, 4) for x in (losses[0], losses[-1])], "packed_off": [float(f"{x:.1g}") for x in off]}
    if options.profile:
        from bench.kernels import profile

        more = train_steps(accelerator, model, optimizer, islice(steps, 3), *step_loss)
        profile(more, Path(options.profile) / f"{job.shape}-{job.method}-{job.packs}.txt")
    return result


def run_trl(job: Job, data: list[dict[str, list[int]]], options: argparse.Namespace) -> dict[str, Any]:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from nlpft.training.flops import per_token

    cuda = torch.cuda.is_available()
    model = make_model(job, SUITES[options.one].settings["attention"] if cuda else "sdpa", cuda)
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1, "<unk>": 2}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    micro = job.micro or job.packs
    settings = SFTConfig(
        "/tmp/bench_trl", max_steps=job.steps, per_device_train_batch_size=micro, gradient_accumulation_steps=job.packs // micro,
        packing=True, packing_strategy="bfd", max_length=job.pack, bf16=cuda, use_cpu=not cuda, use_liger_kernel=cuda,
        gradient_checkpointing=job.keep < 0.5, optim="adamw_torch_fused", logging_steps=1000, save_strategy="no", report_to=[],
        disable_tqdm=True, dataloader_num_workers=2 if cuda else 0,
    )  # fmt: skip
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        model=model,
        args=settings,
        train_dataset=Dataset.from_list(data),
        processing_class=tokenizer,
        peft_config=lora if job.method == "lora" else None,
    )
    seconds: list[float] = []
    tokens: list[int] = []
    first: list[float] = []
    inner = trainer.training_step

    def counted(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        mask = inputs.get("attention_mask")
        tokens[-1] += int(mask.sum()) if mask is not None else inputs["input_ids"].numel()
        return inner(model, inputs, *args, **kwargs)

    class Clock(TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            synchronize()
            tokens.append(0)
            self.start = time.time()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            synchronize()
            seconds.append(time.time() - self.start)
            first.append(time.time())

    trainer.training_step = counted
    trainer.add_callback(Clock())
    trainer.train()
    skip = job.steps // 3 + 1
    flops = per_token(trainer.accelerator.unwrap_model(trainer.model), lengths(data))
    result = measured(sum(tokens[skip:]), sum(seconds[skip:]), flops, options)
    return result | {"first_step_s": round(first[0] - START)}


@dataclass(frozen=True)
class Suite:
    run: Callable[[Job, list[dict[str, list[int]]], argparse.Namespace], dict[str, Any]]
    settings: dict[str, Any]  # of nlpft's compute; TRL's attention


SUITES = {
    "nlpft": Suite(run_nlpft, {}),
    "nlpft-float8": Suite(run_nlpft, {"float8": True}),
    "nlpft-deterministic": Suite(run_nlpft, {"deterministic": True}),
    "trl": Suite(run_trl, {"attention": "flex_attention"}),
    "trl-flash4": Suite(run_trl, {"attention": "flash_attention_4"}),
}


def synchronize() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measured(tokens: int, seconds: float, flops: float, options: argparse.Namespace) -> dict[str, Any]:
    import torch

    rate, cuda = tokens / seconds, torch.cuda.is_available()
    return {
        "tokens_per_s": round(rate),
        "utilisation": round(rate * flops / options.peak / 1e12, 3),
        "gib": round(torch.cuda.max_memory_allocated() / 2**30, 1) if cuda else 0.0,
        "device": torch.cuda.get_device_name() if cuda else "cpu",
    }


def child(suite: str, name: str, words: list[str], limit: float, launch: list[str]) -> dict[str, Any]:
    """The result of one job in a process of its own; what went wrong stands in `error`."""
    command = [sys.executable, *launch, __file__, "--one", suite, "--jobs", name, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    from nlpft.commands.verify_resume import kill_family

    with subprocess.Popen(command, start_new_session=True, **pipes) as run:
        try:
            out, said = run.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            kill_family(run.pid)  # a launcher's processes too
            return {"error": f"longer than {limit:.0f} s", "tail": run.communicate()[1][-1500:]}
    if run.returncode == 0:
        print(said[-4000:] if "--profile" in words else "", end="", flush=True)
        return dict(json.loads(out.splitlines()[-1]))
    return {"error": f"exit {run.returncode}", "tail": said[-2500:]}


def table(results: list[dict[str, Any]]) -> str:
    lines = ["| job | suite | tokens/s | of TRL | utilisation | GiB | first step, s |", "|---|---|---|---|---|---|---|"]
    base: dict[str, int] = {}  # TRL's faster setting
    for r in results:
        if r["suite"].startswith("trl") and "error" not in r:
            base[r["job"]] = max(base.get(r["job"], 0), r["tokens_per_s"])
    for r in results:
        if "error" in r:
            lines.append(f"| {r['job']} | {r['suite']} | {r['error']} | | | | |")
            continue
        ratio = f"{r['tokens_per_s'] / base[r['job']]:.2f}" if r["job"] in base else ""
        cells = [
            r["job"],
            r["suite"],
            f"{r['tokens_per_s']:,}",
            ratio,
            f"{r['utilisation']:.0%}",
            r["gib"],
            r["first_step_s"],
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--jobs", nargs="+", choices=JOBS, default=["8b-lora", "1b-full", "1b-lora-alpaca", "8b-lora-16k"]
    )
    parser.add_argument("--suites", nargs="+", choices=SUITES, default=["trl", "nlpft"])
    parser.add_argument("--lengths", type=Path, required=True)
    parser.add_argument("--steps", type=int, help="in place of the job's own number")
    parser.add_argument("--peak", type=float, default=790.0, help="TFLOP/s that count as full utilisation")
    parser.add_argument("--attention", default="auto", help="nlpft's compute.attention")
    parser.add_argument("--compile", type=lambda word: word == "true", help="nlpft's compute.compile: true or false")
    parser.add_argument("--bf16", action="store_true", help="on the CPU too")
    parser.add_argument("--keep", type=float, help="in place of the job's own share of kept activations")
    parser.add_argument("--profile", help="folder for tables of nlpft's kernels")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for one job")
    parser.add_argument("--out", type=Path, help="file that takes the results as JSON lines")
    parser.add_argument("--launch", help="Accelerate's configuration file, such as recipes/accelerate/ddp.yaml")
    parser.add_argument(
        "--processes", type=int, nargs="+", default=[1], help="with --launch: each of these, at the same load"
    )
    parser.add_argument("--one", choices=SUITES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        job = JOBS[options.jobs[0]]
        job = replace(job, **{k: v for k in ("steps", "keep") if (v := getattr(options, k)) is not None})
        result = SUITES[options.one].run(job, rows(options.lengths, job), options)
        if os.environ.get("RANK", "0") == "0":
            print(json.dumps({"suite": options.one, "job": options.jobs[0], **asdict(job), **result}))
        return
    skip = {"--jobs", "--suites", "--out", "--limit", "--launch", "--processes"}
    given = {k: str(v) for k, v in vars(options).items() if v not in (None, False) and f"--{k}" not in skip}
    given |= {} if options.compile is None else {"compile": str(options.compile).lower()}
    words = [word for k, v in given.items() for word in ((f"--{k}",) if k == "bf16" else (f"--{k}", v))]
    results = []
    for name, suite in itertools.product(options.jobs, options.suites):
        for count in options.processes:
            launch = f"-m accelerate.commands.launch --config_file {options.launch} --num_processes {count}".split()
            how = child(suite, name, words, options.limit, launch if options.launch else [])
            results.append({"job": name, "suite": suite, **how})
            print(json.dumps(results[-1]), flush=True)
            if options.out:
                options.out.write_text("".join(json.dumps(r) + "\n" for r in results))
    print(table(results))


if __name__ == "__main__":
    main()
