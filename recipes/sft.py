"""Supervised fine-tuning of a causal language model on conversations: all weights, LoRA, or the last blocks.

accelerate launch recipes/sft.py --config recipes/configs/smollm2_lora.yaml --data.train DATASET --optim.lr 1e-4
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlpft import cli, config
from nlpft.config import plugin
from nlpft.data import store
from nlpft.data.loader import DataConfig, PackedData, packed_data
from nlpft.models.compute import compiles, prepare
from nlpft.models.forward import check_isolation
from nlpft.models.load import context, load_tokenizer, save_model, weight_type
from nlpft.rundir import RunDir
from nlpft.training import checkpoint, fit, method, preflight, pretraining, regularize
from nlpft.training.loop import evaluate_loss, to_device
from nlpft.training.optim import trainable_in_float32
from nlpft.training.run import accelerator_for, attended, begin
from nlpft.training.settings import RunConfig
from nlpft.training.stopping import Best


@dataclass(frozen=True)
class Config(RunConfig):
    output_dir: Path = Path("runs/sft")
    """The run's folder; it must not hold a run yet, unless --resume."""
    data: DataConfig = DataConfig()
    tuning: Any = plugin("tuning", "lora")
    objective: Any = plugin("objectives", "causal_lm")


def main(cfg: Config) -> Best:
    """Train as `cfg` says; returns the best evaluation."""
    folder = RunDir(cfg.output_dir)
    newest = checkpoint.to_resume(folder, cfg)
    preflight.check(cfg)
    pretraining.check_kind(cfg.objective, "decoder")
    accelerator = accelerator_for(cfg)

    # model: pretrained weights, which of them train, and what they are scored by
    facts = store.facts(cfg.data.train)
    tokenizer = load_tokenizer(cfg.model, facts.get("template"))
    model = method.load(cfg.model, cfg.dtype, cfg.tuning, cfg.regularize)
    limits: dict[str, Any] = {"context": context(model), "static_shapes": compiles(cfg.compute, accelerator.device)}
    model = prepare(trainable_in_float32(model), cfg.compute, accelerator.device, weight_type(cfg.dtype))
    model, optimizer = method.prepare(accelerator, model, cfg.optim, cfg.tuning, cfg.regularize)
    score = method.score(cfg.objective, model)

    # data: which rows share a pack, and which packs make a step
    folder.check_data(facts)
    train, held_out = packed_data(cfg.data, **limits)
    max_steps = cfg.max_steps or max(1, round(cfg.epochs * train.steps_per_epoch(cfg.data.packs_per_step)))
    cfg = fit.settled(fit.Trial(accelerator, model, optimizer, train, score[0]), cfg, max_steps)
    check_isolation(model, to_device(train.probe(len(tokenizer), cfg.data.micro_batch), accelerator.device))

    # the run: begins, or goes on from its newest checkpoint
    run = begin(accelerator, folder, cfg, model, optimizer, train, score, max_steps, newest)
    run.log.left_out(train, held_out)

    @regularize.averaged(optimizer, model)
    def evaluate(step: int, held_out: PackedData) -> None:
        batches = held_out.micro_batches(held_out.packs(0, 0), cfg.data.micro_batch, run.share)
        run.judge(step, *evaluate_loss(accelerator, model, batches, *score))

    with attended(run) as steps:
        for step in steps:
            if held_out and step.measured:
                evaluate(step.number, held_out)

    # the result: the best weights where there was held-out data, else the last
    run.take_best()
    origin = {"base": cfg.model, "template_hash": facts.get("template_hash")}
    with regularize.averaged(optimizer, model):
        save_model(accelerator.unwrap_model(model), folder.model, tokenizer, origin, accelerator.is_main_process)
    return run.end()


if __name__ == "__main__":
    sys.exit(cli.guarded(lambda: main(config.parse(Config, sys.argv[1:], prog="recipes/sft.py"))))
