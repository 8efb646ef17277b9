"""Supervised fine-tuning of a causal language model on conversations: all weights, LoRA, or the last blocks.

accelerate launch recipes/sft.py --config recipes/configs/smollm2_lora.yaml --data.train DATASET --optim.lr 1e-4
"""

import sys
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from accelerate import Accelerator
from accelerate.utils import set_seed

from nlpft import cli, config
from nlpft.config import plugin
from nlpft.data import store
from nlpft.data.loader import DataConfig, PackedData, Share, packed_data
from nlpft.errors import Interrupted
from nlpft.models.compute import ComputeConfig, compiles, prepare
from nlpft.models.forward import check_isolation
from nlpft.models.load import autocast, context, load_tokenizer, save_model, weight_type
from nlpft.rundir import RunDir
from nlpft.training import checkpoint, fit, flops, method, preflight, regularize
from nlpft.training.bad_steps import BadStepConfig, BadSteps, rescued
from nlpft.training.checkpoint import CheckpointConfig
from nlpft.training.interrupt import Interrupts
from nlpft.training.log import RunLog
from nlpft.training.loop import OneLate, evaluate_loss, is_due, to_device, train_steps
from nlpft.training.optim import OptimConfig, trainable_in_float32
from nlpft.training.regularize import RegularizeConfig
from nlpft.training.stopping import Best


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
    preflight: bool | None = None
    """Whether a step on the largest batch is tried first: does it fit, how long will all take; not set: on a GPU."""
    resume: bool = False
    """Go on from the newest checkpoint in output_dir, or begin where there is none."""
    trackers: tuple[Literal["tensorboard", "wandb", "trackio", "mlflow"], ...] = ()
    """Experiment trackers that get every number of metrics.jsonl."""
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    regularize: RegularizeConfig = RegularizeConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    bad_steps: BadStepConfig = BadStepConfig()
    compute: ComputeConfig = ComputeConfig()
    tuning: Any = plugin("tuning", "lora")
    objective: Any = plugin("objectives", "causal_lm")


def main(cfg: Config) -> Best:
    """Train as `cfg` says; returns the best evaluation."""
    run = RunDir(cfg.output_dir)
    newest = checkpoint.to_resume(run, cfg)
    preflight.check(cfg)
    precision, trackers = autocast(cfg.dtype), list(cfg.trackers) or None
    accelerator = Accelerator(mixed_precision=precision, log_with=trackers, project_dir=run.path)
    set_seed(cfg.seed)

    # model: pretrained weights, which of them train, and what they are scored by
    facts = store.facts(cfg.data.train)
    tokenizer = load_tokenizer(cfg.model, facts.get("template"))
    model = method.load(cfg.model, cfg.dtype, cfg.tuning, cfg.regularize)
    limits: dict[str, Any] = {"context": context(model), "static_shapes": compiles(cfg.compute, accelerator.device)}
    model = prepare(trainable_in_float32(model), cfg.compute, accelerator.device, weight_type(cfg.dtype))
    model, optimizer = method.prepare(accelerator, model, cfg.optim, cfg.tuning, cfg.regularize)
    score = method.score(cfg.objective, model)

    # data: which rows share a pack, and which packs make a step
    run.check_data(facts)
    share = Share(accelerator.process_index, accelerator.num_processes)
    train, held_out = packed_data(cfg.data, **limits)
    max_steps = cfg.max_steps or max(1, round(cfg.epochs * train.steps_per_epoch(cfg.data.packs_per_step)))
    cfg = fit.settled(fit.Trial(accelerator, model, optimizer, train, score[0]), cfg, max_steps)
    check_isolation(model, to_device(train.probe(len(tokenizer), cfg.data.micro_batch), accelerator.device))

    # where to begin
    best, first_step = Best(cfg.patience), 0
    if newest:
        state = checkpoint.load(accelerator, newest, model, optimizer)
        best, first_step = Best(cfg.patience, **state["best"]), state["step"]
    log = RunLog.start(accelerator, run, cfg, max_steps, first_step, flops.per_token(model, train.lengths))
    log.left_out(train, held_out)
    log.say(method.described(optimizer, cfg.optim.lr))

    @regularize.averaged(optimizer, model)
    def evaluate(step: int, held_out: PackedData) -> None:
        batches = held_out.micro_batches(held_out.packs(0, 0), cfg.data.micro_batch, share)
        loss, targets = evaluate_loss(accelerator, model, batches, *score)
        best.update(step, loss)
        log.evaluation(step, loss, targets, best.step == step)

    def save(step: int) -> None:
        state = {"step": step, "best": best.state()}
        checkpoint.save(accelerator, run.checkpoints, model, optimizer, state, cfg.checkpoint.keep)

    sources = partial(train.sources, cfg.data, cfg.seed, share.processes)
    roll_back = partial(checkpoint.roll_back, accelerator, run.checkpoints, model, optimizer)
    read = OneLate(log.step, BadSteps(cfg.bad_steps, sources, log.problem, roll_back))
    with log.running(), Interrupts() as signals, rescued(read, save, sources, share.processes):
        left = 0 if best.stop() else max_steps - first_step  # a run may have been killed after its last checkpoint
        steps = islice(train.steps(cfg.data, cfg.seed, share, first_step), left)
        settings = method.step_settings(accelerator.unwrap_model(model), cfg, max_steps, first_step)
        for report in train_steps(accelerator, model, optimizer, steps, *score, settings, signals.received):
            step, last = report.step, report.step == max_steps
            measured, due = last or is_due(step, cfg.eval_every), is_due(step, cfg.checkpoint.every)
            read(report, now=measured or due)
            if held_out and measured:
                evaluate(step, held_out)
            if last or due or best.stop() or best.step == step or read.interrupted:
                save(step)
            if read.interrupted and not last:
                raise Interrupted(f"told to stop; step {step} is saved, go on from it by --resume", signals.code)
            if best.stop():
                log.say(f"stopped at step {step}: no better held-out loss in {cfg.patience} evaluations")
                break

    # the result: the best weights where there was held-out data, else the last
    model = accelerator.unwrap_model(model)
    if best.step:
        checkpoint.load(accelerator, run.checkpoints / f"step-{best.step:08d}", model, optimizer)
    origin = {"base": cfg.model, "template_hash": facts.get("template_hash")}
    with regularize.averaged(optimizer, model):
        save_model(model, run.model, tokenizer, origin, accelerator.is_main_process)
    log.say(f"saved {run.model}" + (f", the weights of step {best.step}" if best.step else ""))
    accelerator.end_training()
    return best


if __name__ == "__main__":
    sys.exit(cli.guarded(lambda: main(config.parse(Config, sys.argv[1:], prog="recipes/sft.py"))))
