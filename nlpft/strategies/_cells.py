"""Cells of a comparison, one strategy with one seed each: run, kept as they come, and found again by what decides them."""

import hashlib
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from nlpft import config, plugins
from nlpft.data import store
from nlpft.data.examples import Examples
from nlpft.errors import ConfigError, TrainingError, UserError
from nlpft.evaluation.head_scores import Scored, targets_of
from nlpft.files import write_text
from nlpft.strategies import _items, _lab
from nlpft.strategies._lab import Lab
from nlpft.types import IGNORE

LABEL = re.compile(r"(?:([^:]+):\s+)?(\S.*)", re.DOTALL)
FREE = (
    "output_dir",
    "strategies",
    "against",
    "seeds",
    "confidence",
    "join",
    "resamples",
    "data.",
    "sources",
    "unlabelled",
)


class Plan(NamedTuple):
    """A strategy of a comparison."""

    label: str
    module: ModuleType
    settings: Any


class Cell(NamedTuple):
    """What a strategy came to with one seed."""

    label: str
    seed: int
    value: float  # the measure on data.test
    loss: float  # nats per target there
    counts: list[list[float]]  # numerator and denominator of the measure, [2][items of data.test]
    spent: dict[str, float]  # as Spent
    notes: dict[str, Any]  # curve: (used, measure, loss) on data.eval; and what the strategy says of its work


def plans(texts: Sequence[str]) -> list[Plan]:
    """Strategies from texts `[LABEL: ]NAME [--SETTING VALUE ...]`. Raises ConfigError where one is none, or labels repeat."""
    found = [_plan(text) for text in texts]
    labels = [plan.label for plan in found]
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(
                f"strategies: two are called {label!r}; give each a label of its own, as in 'sgd: finetune ...'"
            )
    if len(found) < 2:
        raise ConfigError(
            "strategies: name at least two to compare, as in --strategies finetune 'head: finetune --train head'"
        )
    return found


def _plan(text: str) -> Plan:
    match = LABEL.fullmatch(text.strip())
    words = shlex.split(match[2]) if match else []
    if match is None or not words or words[0].endswith(":"):
        raise ConfigError(f"strategies {text!r}: write [LABEL: ]NAME [--SETTING VALUE ...]")
    module = plugins.load("strategies", words[0])
    try:
        settings = config.parse(module.Config, words[1:], prog=words[0])
    except UserError as error:
        raise ConfigError(f"strategies {text!r}: {error}") from error
    return Plan(match[1] or words[0], module, settings)


def run(lab: Lab, test: Examples, plan: Plan, seed: int) -> Cell:
    """Train by a strategy within the budget, and score data.test once. Raises TrainingError where it took no step."""
    _lab.begin(lab, seed)
    predict = plan.module.train(plan.settings, lab, seed)
    spent = lab.meter.stop()
    if not spent.optimizer_steps:
        raise TrainingError(f"{plan.label}, seed {seed}: the budget was spent before a step; raise it")
    scored = answered(test, predict(test))
    counts = _items.counts(lab.task, scored, lab.cfg.measure, len(test))
    value = float(_items.ratio(counts.sum(1)))
    return Cell(plan.label, seed, value, _items.loss(scored), counts.tolist(), spent._asdict(), dict(lab.notes))


def answered(rows: Examples, logits: np.ndarray) -> Scored:
    """Logits [targets, outputs] in the order of the rows, beside the targets."""
    each = targets_of(rows, range(len(rows)))
    targets = rows.targets[rows.targets != IGNORE] if rows.layout.reads == "labelled" else rows.targets
    return Scored(logits, targets, np.repeat(np.arange(len(rows)), each))


class Kept:
    """Cells in a folder, each in a file of its own, by the hash of what decides them: settings, seed, contents of the data."""

    def __init__(self, folder: Path, cfg: Any) -> None:
        self.folder = folder
        own = {key: value for key, value in config.flat(cfg).items() if not key.startswith(FREE)}
        data = {key: value for key, value in config.flat(cfg.data).items() if key not in ("train", "eval", "test")}
        folders = [cfg.data.train, cfg.data.eval, cfg.data.test, *cfg.sources, *filter(None, [cfg.unlabelled])]
        self.common = [own, data, [store.info(place).get("fingerprint", str(place)) for place in folders]]

    def file(self, plan: Plan, seed: int) -> Path:
        said = json.dumps([self.common, config.flat(plan.settings), seed], sort_keys=True, default=str)
        name = re.sub(r"\W+", "_", plan.label)
        return self.folder / f"{name}-{seed}-{hashlib.sha256(said.encode()).hexdigest()[:12]}.json"

    def read(self, plan: Plan, seed: int) -> Cell | None:
        file = self.file(plan, seed)
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
        return Cell(**found)._replace(label=plan.label) if found else None

    def add(self, plan: Plan, cell: Cell) -> Cell:
        """Write a cell, whole; as `read` gives it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(cell._asdict())
        write_text(self.file(plan, cell.seed), text)
        return Cell(**json.loads(text))
