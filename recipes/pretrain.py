"""Pretraining on raw text: causal or masked language modelling, or denoising; of a pretrained model, or from random weights.

accelerate launch recipes/pretrain.py --config recipes/configs/minilm_pretrain.yaml --text.files "books/*.txt"
"""

import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from nlpft import cli, config
from nlpft.config import module_of, plugin
from nlpft.data import store
from nlpft.data.loader import DataConfig, PackedData, packed_data
from nlpft.data.raw_text import TextConfig
from nlpft.models.compute import compiles, prepare
from nlpft.models.load import load_model, load_tokenizer, save_model, weight_type
from nlpft.rundir import RunDir
from nlpft.training import checkpoint, fit, method, preflight, pretraining, regularize
from nlpft.training.loop import evaluate_loss, to_device
from nlpft.training.optim import trainable_in_float32
from nlpft.training.run import accelerator_for, attended, begin
from nlpft.training.settings import RunConfig
from nlpft.training.stopping import Best


@dataclass(frozen=True)
class Config(RunConfig):
    output_dir: Path = Path("runs/pretrain")
    """The run's folder; it must not hold a run yet, unless --resume."""
    from_config: Path | None = None
    """A model's config.json: begin with random weights, in place of `model`; they are kept in output_dir/start."""
    tokenizer: str = ""
    """With from_config: `train`, for one trained on text.files, or a model whose tokenizer is taken."""
    text: TextConfig = TextConfig()
    data: DataConfig = DataConfig()
    tuning: Any = plugin("tuning", "full")
    objective: Any = plugin("objectives", "causal_lm")


def check(cfg: Config) -> None:
    """Raise UserError for what would end a run before its first step, as far as it is known before anything is made."""
    preflight.check(replace(cfg, model=cfg.tokenizer) if cfg.from_config else cfg)


def main(cfg: Config) -> Best:
    """Train as `cfg` says; returns the best evaluation."""
    folder = RunDir(cfg.output_dir)
    cfg = pretraining.placed(cfg)
    newest = checkpoint.to_resume(folder, cfg)
    kind = pretraining.prepare(cfg)
    preflight.check(cfg)
    accelerator = accelerator_for(cfg)

    # model: pretrained or random weights, which of them train, and what they are scored by
    facts = store.facts(cfg.data.train)
    tokenizer = load_tokenizer(cfg.model)
    model = method.load(cfg.model, cfg.dtype, cfg.tuning, cfg.regularize, partial(load_model, auto=kind.auto))
    objective = module_of(cfg.objective)
    limits: dict[str, Any] = {"context": kind.context(model), "plan": objective.PLAN}
    limits |= {"static_shapes": compiles(cfg.compute, accelerator.device)}
    limits |= {"corrupt": objective.corruption(cfg.objective, model, tokenizer)}
    model = prepare(trainable_in_float32(model), cfg.compute, accelerator.device, weight_type(cfg.dtype))
    model, optimizer = method.prepare(accelerator, model, cfg.optim, cfg.tuning, cfg.regularize)
    score = method.score(cfg.objective, model)

    # data: which rows share a pack, which packs make a step, and what is hidden of them
    folder.check_data(facts)
    train, held_out = packed_data(cfg.data, **limits)
    pretraining.check_size(train)
    max_steps = cfg.max_steps or max(1, round(cfg.epochs * train.steps_per_epoch(cfg.data.packs_per_step)))
    cfg = fit.settled(fit.Trial(accelerator, model, optimizer, train, score[0]), cfg, max_steps)
    kind.check(model, to_device(train.probe(len(tokenizer), cfg.data.micro_batch), accelerator.device))

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
    origin = {"base": cfg.model, "objective": cfg.objective.name}
    with regularize.averaged(optimizer, model):
        save_model(accelerator.unwrap_model(model), folder.model, tokenizer, origin, accelerator.is_main_process)
    return run.end()


if __name__ == "__main__":
    sys.exit(cli.guarded(lambda: main(config.parse(Config, sys.argv[1:], prog="recipes/pretrain.py"))))
