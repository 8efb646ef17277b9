"""A teacher's part in a run of distillation: loaded, or its stored answers, and what it has cost."""

import json
from functools import partial
from typing import Any, NamedTuple

from accelerate import Accelerator
from torch import nn

from nlpft.data import store
from nlpft.data.loader import PackedData
from nlpft.distillation import settings, stored
from nlpft.distillation.settings import weight_at
from nlpft.distillation.stored import Answers
from nlpft.distillation.teacher import check_vocabulary, load_teacher
from nlpft.files import write_text
from nlpft.models.forward import check_isolation
from nlpft.training import flops
from nlpft.training.loop import to_device


class Teaching(NamedTuple):
    """Who answers: the teacher itself, or its stored answers; neither where it has no weight."""

    master: nn.Module | None = None
    answers: Answers | None = None
    flops: float = 0.0  # of the teacher for a token, forward only


def name_of(cfg: Any) -> str:
    """The teacher's name. cfg: settings of recipes/distil.py."""
    return cfg.distillation.teacher or cfg.model


def check(cfg: Any) -> None:
    """Raise UserError for what could not teach, before anything is loaded."""
    settings.check(cfg.distillation)
    if cfg.distillation.weight:
        check_vocabulary(cfg.model, name_of(cfg))


def begin(cfg: Any, accelerator: Accelerator, data: PackedData, vocabulary: int) -> Teaching:
    """The teacher, or its answers to `data`, made by the first process where they are not there yet.

    vocabulary: tokens of the tokenizer. Raises ConfigError where answers are to something else.
    """
    config = cfg.distillation
    if not config.weight:
        return Teaching()
    load = partial(load_teacher, name_of(cfg), config.dtype, cfg.compute, accelerator.device)
    if config.answers is None:
        master = load()
        return Teaching(master, None, flops.per_token(master, data.lengths))

    def asked() -> nn.Module:
        master = load()
        check_isolation(master, to_device(data.probe(vocabulary, 1), accelerator.device))
        known["flops_per_token"] = flops.per_token(master, data.lengths)
        return master

    known: dict[str, float] = {}
    wanted = stored.facts(config, name_of(cfg), data)
    with accelerator.main_process_first():
        answers = stored.prepare(config.answers, wanted, data, asked, accelerator.print, known)
    return Teaching(None, answers, float(store.info(config.answers)["flops_per_token"]))


def note_cost(run: Any, teaching: Teaching) -> None:
    """Write distillation.json into the folder of `run` (training/run.py), and say what share of all operations the teacher took.

    teacher_tokens: that it read, in the steps in which it had weight, or when its answers were stored. seconds: of all steps;
    answers_seconds: of the call, of this run or an earlier one, that stored the answers, loading the teacher included.
    """
    if not run.accelerator.is_main_process:  # who has written what is read here
        return
    config, lines = run.cfg.distillation, run.folder.metrics.read_text(encoding="utf-8").splitlines()
    steps = [line for line in map(json.loads, lines) if line["kind"] == "train"]
    tokens = sum(line["tokens"] for line in steps)
    asked = (
        sum(line["tokens"] for line in steps if weight_at(config, line["step"], run.max_steps))
        if teaching.master
        else 0
    )
    if teaching.answers:
        asked = store.info(config.answers)["tokens"]
    own = flops.per_token(run.model, run.data.lengths)
    cost = {"teacher": name_of(run.cfg) if asked else None, "teacher_tokens": asked, "student_tokens": tokens,
            "teacher_flops": asked * teaching.flops, "student_flops": tokens * own,
            "seconds": sum(line["seconds"] for line in steps),
            "answers_seconds": store.info(config.answers).get("seconds") if teaching.answers else 0.0}  # fmt: skip
    write_text(run.folder.path / "distillation.json", json.dumps(cost, indent=2) + "\n")
    share = cost["teacher_flops"] / max(1.0, cost["teacher_flops"] + cost["student_flops"])
    run.log.say(f"teacher: {asked:,} tokens, {share:.0%} of all operations; student: {tokens:,} tokens")
