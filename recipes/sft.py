"""Supervised fine-tuning of a causal language model on conversations: all weights, LoRA, or the last blocks.

accelerate launch recipes/sft.py --config recipes/configs/smollm2_lora.yaml --data.train DATASET --optim.lr 1e-4
"""

import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from nlpft import cli, config
from nlpft.config import plugin
from nlpft.data import store
from nlpft.data.loader import DataConfig, PackedData, Share
from nlpft.models.compute import ComputeConfig, compiles, prepare
from nlpft.models.forward import check_isolation
from nlpft.models.load import as_loaded, context, load_model, load_tokenizer, save_model, weight_type
from nlpft.rundir import RunDir
from nlpft.training import checkpoint, preflight
from nlpft.training.checkpoint import CheckpointConfig
from nlpft.training.log import RunLog, environment
from nlpft.training.loop import OneLate, evaluate_loss, is_due, to_device, train_steps
from nlpft.training.optim import OptimConfig, build_optimizer, learning_rate, trainable_in_float32
from nlpft.training.stopping import Best

# What may change between a run and its resume: nothing that decides its weights.
FREE = ("resume", "output_dir", "trackers", "checkpoint.")


@dataclass(frozen=True)
class Config:
    model: str = "smollm2-135m"
    """Pretrained model: a hub id, a local folder, or smollm2-135m."""
    output_dir: Path = Path("runs/sft")
    """The run's folder; it must not hold a run yet, unless --resume."""
    epochs: float = 1.0
    """Times that every row is seen."""
    max_steps: int | None = None
    """Optimiser steps, in place of epochs."""
    eval_every: int = 0
    """Optimiser steps between two measurements of the loss on data.eval; 0: only at the end."""
    patience: int = 0
    """Evaluations without a better loss after which training stops; 0: never."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the weights; auto: float32 on the CPU, bfloat16 on a GPU."""
    seed: int = 0
    """Of the order of rows, new weights, and dropout."""
    resume: bool = False
    """Go on from the newest checkpoint in output_dir, or begin where there is none."""
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Experiment trackers that get every number of metrics.jsonl."""
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    compute: ComputeConfig = ComputeConfig()
    tuning: Any = plugin("tuning", "lora")
    objective: Any = plugin("objectives", "causal_lm")


def main(cfg: Config) -> Best:
    """Train as `cfg` says; returns the best evaluation."""
    run = RunDir(cfg.output_dir)
    newest = checkpoint.latest(run.checkpoints) if cfg.resume else None
    if newest:
        config.check_same(config.load(Config, run.config), cfg, FREE)
    elif not cfg.resume:
        run.check_free()
    preflight.check(cfg)
    precision = "bf16" if weight_type(cfg.dtype) == torch.bfloat16 else None  # None: as the launcher says
    accelerator = Accelerator(log_with=list(cfg.trackers) or None, project_dir=run.path, mixed_precision=precision)
    set_seed(cfg.seed)

    # model: pretrained weights, which of them train, and what they are scored by
    facts = store.facts(cfg.data.train)
    tokenizer = load_tokenizer(cfg.model, facts.get("template"))
    model = config.module_of(cfg.tuning).apply(load_model(cfg.model, cfg.dtype), cfg.tuning)
    limits: dict[str, Any] = {"context": context(model), "static_shapes": compiles(cfg.compute, accelerator.device)}
    model = prepare(trainable_in_float32(model), cfg.compute, accelerator.device, weight_type(cfg.dtype))
    optimizer = build_optimizer(model, cfg.optim)
    model, optimizer = accelerator.prepare(model, optimizer)
    objective = config.module_of(cfg.objective)
    score = objective.build(cfg.objective, model), objective.num_targets

    # data: which rows share a pack, and which packs make a step
    run.check_data(facts)
    share = Share(accelerator.process_index, accelerator.num_processes)
    train = PackedData(cfg.data.train, cfg.data.max_length, **limits)
    held_out = PackedData(cfg.data.eval, cfg.data.max_length, **limits) if cfg.data.eval else None
    check_isolation(model, to_device(train.probe(len(tokenizer), cfg.data.packs_per_micro_batch), accelerator.device))
    max_steps = cfg.max_steps or max(1, round(cfg.epochs * train.steps_per_epoch(cfg.data.packs_per_step)))

    # where to begin
    best, first_step = Best(cfg.patience), 0
    if newest:
        state = checkpoint.load(accelerator, newest, model, optimizer)
        best, first_step = Best(cfg.patience, **state["best"]), state["step"]
    if accelerator.is_main_process:
        data = {"train": facts, **({"eval": store.facts(cfg.data.eval)} if cfg.data.eval else {})}
        run.start(config.dump(cfg), environment(cfg.seed), data)
    accelerator.wait_for_everyone()
    accelerator.init_trackers("nlpft", config=config.flat_text(cfg))

    def evaluate(step: int, held_out: PackedData) -> None:
        batches = held_out.micro_batches(held_out.packs(0, 0), cfg.data.packs_per_micro_batch, share)
        loss, targets = evaluate_loss(accelerator, model, batches, *score)
        best.update(step, loss)
        log.evaluation(step, loss, targets, best.step == step)

    def save(step: int) -> None:
        checkpoint.save(accelerator, run.checkpoints, model, optimizer, {"step": step, "best": best.state()})
        if accelerator.is_main_process:
            checkpoint.prune(run.checkpoints, cfg.checkpoint.keep, best.step)

    log = RunLog(accelerator, run.metrics, max_steps, first_step)
    log_step = OneLate(log.step)
    with log.running():
        left = 0 if best.stop() else max_steps - first_step  # a run may have been killed after its last checkpoint
        steps = islice(train.steps(cfg.data, cfg.seed, share, first_step), left)
        rate, norm = learning_rate(cfg.optim, max_steps), cfg.optim.max_grad_norm
        for report in train_steps(accelerator, model, optimizer, rate, steps, *score, norm, first_step):
            step, last = report.step, report.step == max_steps
            measured = last or is_due(step, cfg.eval_every)
            log_step(report, now=last or measured or is_due(step, cfg.checkpoint.every))
            if held_out and measured:
                evaluate(step, held_out)
            if last or best.stop() or best.step == step or is_due(step, cfg.checkpoint.every):
                save(step)
            if best.stop():
                log.say(f"stopped at step {step}: no better held-out loss in {cfg.patience} evaluations")
                break

    # the result: the best weights where there was held-out data, else the last
    if accelerator.is_main_process:
        model = accelerator.unwrap_model(model)
        if best.step:
            checkpoint.load_weights(model, run.checkpoints / f"step-{best.step:08d}")
        origin = {"base": cfg.model, "template_hash": facts.get("template_hash")}
        save_model(as_loaded(model), run.model, tokenizer, origin)
        log.say(f"saved {run.model}" + (f", the weights of step {best.step}" if best.step else ""))
    accelerator.end_training()
    return best


if __name__ == "__main__":
    sys.exit(cli.guarded(lambda: main(config.parse(Config, sys.argv[1:], prog="recipes/sft.py"))))
