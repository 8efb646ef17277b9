"""A pretrained encoder or decoder learns to label texts: one label, several, or a number; one text or two.

nlpft label train=train.tsv eval=dev.tsv test=test.tsv -o data/mine -m MODEL
accelerate launch recipes/classify.py --model MODEL --data.train data/mine/train --data.eval data/mine/eval
"""

import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from nlpft import cli, config
from nlpft.config import plugin
from nlpft.data import examples, store
from nlpft.data.example_batch import batch_of
from nlpft.data.examples import Examples, ExamplesConfig
from nlpft.evaluation import head_scores
from nlpft.models.compute import prepare
from nlpft.models.head_forward import choose
from nlpft.models.heads import HeadConfig, facts, new_head, rate_factors, train_head
from nlpft.models.load import context, load_tokenizer, save_model, weight_type
from nlpft.rundir import RunDir
from nlpft.training import checkpoint, method, policy, preflight, regularize
from nlpft.training.frozen import computed_once
from nlpft.training.optim import OptimConfig, trainable_in_float32
from nlpft.training.policy import Policy
from nlpft.training.run import accelerator_for, attended, begin
from nlpft.training.settings import RunConfig
from nlpft.training.stopping import Best


@dataclass(frozen=True)
class Config(RunConfig):
    output_dir: Path = Path("runs/classify")
    """The run's folder; it must not hold a run yet, unless --resume."""
    epochs: float = 3.0
    """Times that every row is seen."""
    best: str = "loss"
    """Measure on data.eval by which the best weights are chosen: loss, accuracy, f1, matthews_correlation, ..."""
    policy: Policy = "as_set"
    """auto: what trains (tuning.name) is chosen by the number of rows; the run says what, and why."""
    data: ExamplesConfig = ExamplesConfig()
    head: HeadConfig = HeadConfig()
    optim: OptimConfig = OptimConfig(lr=5e-5, weight_decay=0.01, schedule="linear", warmup=0.1)
    tuning: Any = plugin("tuning", "full")
    objective: Any = plugin("objectives", "classification")


def main(cfg: Config) -> Best:
    """Train as `cfg` says; returns the best evaluation."""
    folder = RunDir(cfg.output_dir)
    cfg, why = policy.chosen(cfg)
    newest = checkpoint.to_resume(folder, cfg)
    preflight.check(cfg)
    accelerator = accelerator_for(cfg)

    # model: a pretrained body with a new head, which of its weights train, and what they are scored by
    task = examples.task(cfg.data.train)
    head_scores.check(cfg.best, task)
    load = partial(new_head, task=task, config=cfg.head)
    model = train_head(method.load(cfg.model, cfg.dtype, cfg.tuning, cfg.regularize, load))
    compute = replace(cfg.compute, compile=cfg.compute.compile or False)  # no two batches have one shape
    model = prepare(trainable_in_float32(model), compute, accelerator.device, weight_type(cfg.dtype))
    rates = rate_factors(model, cfg.head)
    model, optimizer = method.prepare(accelerator, model, cfg.optim, cfg.tuning, cfg.regularize, rates)
    score = method.score(cfg.objective, model)

    # data: how rows become batches that this model reads exactly
    folder.check_data(store.facts(cfg.data.train))
    layout = choose(model, batch_of, weight_type(cfg.dtype))
    most = context(accelerator.unwrap_model(model))
    examples.check_layout(cfg.data, layout)
    train = Examples(cfg.data.train, layout, most)
    train = computed_once(accelerator, model, train, cfg.data, cfg.seed)
    held_out = {n: Examples(p, layout, most) for n in ("eval", "test") if (p := getattr(cfg.data, n))}
    max_steps = cfg.max_steps or max(1, round(cfg.epochs * train.steps_per_epoch(cfg.data)))

    # the run: begins, or goes on from its newest checkpoint
    run = begin(accelerator, folder, cfg, model, optimizer, train, score, max_steps, newest)
    run.log.say(why)

    @regularize.averaged(optimizer, model)
    def evaluate(step: int, data: Examples) -> None:
        scored = head_scores.outputs(accelerator, model, data, cfg.data)
        values = head_scores.measures(task, scored)
        low = head_scores.cost(cfg.best, values)
        run.judge(step, values.pop("loss"), len(scored.targets), low, **values)

    with attended(run) as steps:
        for step in steps:
            if step.measured and "eval" in held_out:
                evaluate(step.number, held_out["eval"])

    # the result: the best weights where there was held-out data, else the last; and their scores, item by item
    run.take_best()
    with regularize.averaged(optimizer, model):
        scored = {name: head_scores.outputs(accelerator, model, data, cfg.data) for name, data in held_out.items()}
        told = facts(task, base=cfg.model, temperature=head_scores.temperature(task, scored.get("eval")))
        tokenizer = load_tokenizer(cfg.model)
        save_model(accelerator.unwrap_model(model), folder.model, tokenizer, told, accelerator.is_main_process)
    for name, found in scored.items() if accelerator.is_main_process else ():
        about = {"label": cfg.output_dir.name, "model": str(folder.path), "dataset": str(held_out[name].folder)}
        values = head_scores.write(folder.eval / name, "classification", task, found, held_out[name], about)
        run.log.say(f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in values.items()))
    return run.end()


if __name__ == "__main__":
    sys.exit(cli.guarded(lambda: main(config.parse(Config, sys.argv[1:], prog="recipes/classify.py"))))
