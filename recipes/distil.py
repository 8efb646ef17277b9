"""A causal language model learns from conversations and from a teacher's answers: knowledge distillation (Hinton et al. 2015).

nlpft train distil --model smollm2-135m --student.blocks 10 --data.train DATASET --data.eval HELD_OUT   # teacher: all 30 blocks
nlpft train distil --model SMALL --distillation.teacher LARGE --distillation.answers data/answers ...   # answers stored first
"""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nlpft import cli, config
from nlpft.config import plugin
from nlpft.data import store
from nlpft.data.loader import DataConfig, PackedData, packed_data
from nlpft.distillation import step as distillation
from nlpft.distillation import stored, student
from nlpft.distillation.settings import DistillationConfig
from nlpft.distillation.student import StudentConfig
from nlpft.models.compute import compiles, prepare
from nlpft.models.forward import check_isolation
from nlpft.models.load import context, load_tokenizer, save_model, weight_type
from nlpft.objectives import causal_lm
from nlpft.rundir import RunDir
from nlpft.training import checkpoint, fit, method, preflight, regularize, teaching
from nlpft.training.loop import evaluate_loss, to_device
from nlpft.training.optim import trainable_in_float32
from nlpft.training.run import accelerator_for, attended, begin
from nlpft.training.settings import RunConfig
from nlpft.training.stopping import Best


@dataclass(frozen=True)
class Config(RunConfig):
    output_dir: Path = Path("runs/distil")
    """The run's folder; it must not hold a run yet, unless --resume."""
    data: DataConfig = DataConfig()
    student: StudentConfig = StudentConfig()
    distillation: DistillationConfig = DistillationConfig()
    tuning: Any = plugin("tuning", "full")


def main(cfg: Config) -> Best:
    """Train as `cfg` says; returns the best evaluation (of the labels alone)."""
    folder = RunDir(cfg.output_dir)
    newest = checkpoint.to_resume(folder, cfg)
    preflight.check(cfg)
    teaching.check(cfg)
    accelerator = accelerator_for(cfg)

    # student: pretrained weights, or those of the first blocks, and which of them train
    facts = store.facts(cfg.data.train)
    tokenizer = load_tokenizer(cfg.model, facts.get("template"))
    load = partial(student.load_student, config=cfg.student)
    model = method.load(cfg.model, cfg.dtype, cfg.tuning, cfg.regularize, load)
    student.check_tuning(model, cfg.student)

    # data, and the teacher or its stored answers to it
    folder.check_data(facts)
    limits = {"context": context(model), "static_shapes": compiles(cfg.compute, accelerator.device)}
    train, held_out = packed_data(cfg.data, **limits)
    taught = teaching.begin(cfg, accelerator, train, len(tokenizer))
    max_steps = cfg.max_steps or max(1, round(cfg.epochs * train.steps_per_epoch(cfg.data.packs_per_step)))

    # what trains, and what it is scored by
    model = student.add_projections(model, taught.master, cfg.distillation)
    model = prepare(trainable_in_float32(model), cfg.compute, accelerator.device, weight_type(cfg.dtype))
    model, optimizer = method.prepare(accelerator, model, cfg.optim, cfg.tuning, cfg.regularize)
    distillation.check_whole(model)
    score = distillation.build(cfg.distillation, model, taught.master, max_steps), causal_lm.num_targets
    told = stored.told(train, taught.answers)
    cfg = fit.settled(fit.Trial(accelerator, model, optimizer, told, score[0]), cfg, max_steps)
    for one in filter(None, (model, taught.master)):
        check_isolation(one, to_device(train.probe(len(tokenizer), cfg.data.micro_batch), accelerator.device))

    # the run: begins, or goes on from its newest checkpoint
    run = begin(accelerator, folder, cfg, model, optimizer, told, score, max_steps, newest)
    run.log.left_out(train, held_out)

    @regularize.averaged(optimizer, model)
    def evaluate(step: int, held_out: PackedData) -> None:
        batches = held_out.micro_batches(held_out.packs(0, 0), cfg.data.micro_batch, run.share)
        run.judge(step, *evaluate_loss(accelerator, model, batches, *score))

    with attended(run) as steps:
        for step in steps:
            if held_out and step.measured:
                evaluate(step.number, held_out)

    # the result: the best weights where there was held-out data, else the last; and what the teacher has cost
    run.take_best()
    teaching.note_cost(run, taught)
    origin = {"base": cfg.model, "teacher": teaching.name_of(cfg), "template_hash": facts.get("template_hash")}
    with regularize.averaged(optimizer, model):
        own = student.without_projections(accelerator.unwrap_model(model))
        save_model(own, folder.model, tokenizer, origin, accelerator.is_main_process)
    return run.end()


if __name__ == "__main__":
    sys.exit(cli.guarded(lambda: main(config.parse(Config, sys.argv[1:], prog="recipes/distil.py"))))
