"""The laboratory of strategies: one loaded model, its rows, one budget, and what all strategies do with them."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor

from nlpft.data import examples
from nlpft.data.example_batch import batch_of
from nlpft.data.examples import Examples, ExamplesConfig
from nlpft.errors import ConfigError, some
from nlpft.evaluation import head_scores
from nlpft.evaluation.head_scores import Scored
from nlpft.models.compute import ComputeConfig, prepare
from nlpft.models.head_forward import choose
from nlpft.models.heads import draw_head, new_head, rate_factors
from nlpft.models.load import context, weight_type
from nlpft.search.fitness import Pretrained
from nlpft.strategies import _items, _meter
from nlpft.strategies._meter import Meter
from nlpft.training import method
from nlpft.training.loop import Count, StepLoss, StepReport, StepSettings, train_steps
from nlpft.training.optim import OptimConfig, build_optimizer, learning_rate
from nlpft.types import Task

Predict = Callable[[Examples], np.ndarray]  # rows -> logits [targets, outputs]
Batch = dict[str, Tensor]
MOMENTS = 1000  # into which a schedule over seconds is cut
KINDS = ("single_label_classification", "tagging")


@dataclass(frozen=True)
class Source:
    """Labelled rows of another task."""

    task: Task
    rows: Examples


@dataclass(frozen=True)
class Lab:
    """What a strategy works with. `cfg`: a recipe's settings data, head, optim, objective and measure."""

    cfg: Any
    accelerator: Accelerator
    model: Any  # one for all; `restart` puts its weights back
    weights: Pretrained
    task: Task
    train: Examples
    eval: Examples
    sources: tuple[Source, ...]
    unlabelled: Examples | None  # rows of the target domain; their labels, where they have some, are for nobody
    meter: Meter
    notes: dict[str, Any] = field(default_factory=dict)  # what a strategy tells the report of its work

    @property
    def judging(self) -> float:
        """Steps' worth of scoring data.eval once."""
        return self.meter.forward_cost(len(self.eval))


def laboratory(cfg: Any) -> tuple[Lab, Examples]:
    """The laboratory that `cfg` describes, and beside it the rows of data.test. Raises UserError for what does not fit.

    cfg: settings model, data, sources, unlabelled, head, optim, objective, measure, budget.
    """
    check(cfg)
    accelerator, task = Accelerator(), examples.task(cfg.data.train)
    set_seed(0)
    model = new_head(cfg.model, "float32", task, cfg.head)
    model = prepare(model, ComputeConfig(compile=False), accelerator.device, weight_type("float32"))
    layout, most = choose(model, batch_of), context(model)
    train, held_out, test = (Examples(getattr(cfg.data, n), layout, most) for n in ("train", "eval", "test"))
    sources = tuple(Source(examples.task(folder), Examples(folder, layout, most)) for folder in cfg.sources)
    unlabelled = Examples(cfg.unlabelled, layout, most) if cfg.unlabelled else None
    meter = Meter(cfg.budget, cfg.data.rows_per_step)
    meter.stop()
    _meter.attach(model, meter)
    lab = Lab(cfg, accelerator, model, Pretrained(model), task, train, held_out, sources, unlabelled, meter)
    if meter.timed:
        _measure_pace(lab)
    return lab, test


def _measure_pace(lab: Lab) -> None:
    """A budget in seconds keeps back what evaluations will take, from the first cell on."""
    begin(lab, 0)
    loss, _ = method.score(lab.cfg.objective, lab.model)
    for batch in next(steps(lab, 0)):
        loss(lab.model, {name: x.to(lab.accelerator.device) if x.ndim else x for name, x in batch.items()}).backward()
    lab.meter.stop()


def check(cfg: Any) -> None:
    """Raise UserError for settings and data that make no laboratory."""
    _meter.check(cfg.budget)
    examples.check(cfg.data)
    if cfg.data.eval is None or cfg.data.test is None:
        raise ConfigError(
            "data.eval and data.test: strategies decide by the one, and are compared on the other; give both"
        )
    if cfg.data.mixup or cfg.data.cut_mix or cfg.data.features == "once" or cfg.data.sampling == "smote":
        raise ConfigError(
            "data.mixup, cut_mix, features once, sampling smote: strategies train on rows as they are; unset these"
        )
    task = examples.task(cfg.data.train)
    _items.check(cfg.measure, task)
    for folder in cfg.sources:
        _check_source(folder, task)
    if cfg.unlabelled is not None:
        _check_domain(cfg.unlabelled, task, cfg.data.train)


def _check_source(folder: Path, task: Task) -> None:
    """A source task may have other labels, but is read at the same places."""
    other = examples.task(folder)
    if other.kind != task.kind:
        raise ConfigError(f"sources {folder}: its labels are for {other.kind}, those of data.train for {task.kind}")


def _check_domain(folder: Path, task: Task, train: Path) -> None:
    """The target domain's rows need no labels, but where they have some these are the task's."""
    other = examples.task(folder)
    if (other.kind, other.labels) != (task.kind, task.labels):
        raise ConfigError(
            f"unlabelled {folder}: its labels ({some(other.labels, 5)}) are not those of {train} ({some(task.labels, 5)}); "
            "domain adaptation is for one task in two domains; make both by one call: "
            "nlpft label train=FILE unlabelled=FILE -o FOLDER"
        )


def begin(lab: Lab, seed: int) -> None:
    """Begin a strategy: the pretrained weights, a head drawn by `seed`, and the whole budget."""
    lab.notes.clear()
    restart(lab, seed)
    lab.meter.begin()


def restart(lab: Lab, seed: int) -> None:
    """The pretrained weights with a head drawn by `seed`; all of them train. What is spent stays spent."""
    lab.weights.restore(lab.model)
    lab.model.requires_grad_(True)
    torch.manual_seed(seed)
    draw_head(lab.model, lab.cfg.head)


def outputs(lab: Lab, rows: Examples) -> Scored:
    """What the model answers to `rows`."""
    return head_scores.outputs(lab.accelerator, lab.model, rows, lab.cfg.data)


def predictor(lab: Lab) -> Predict:
    """What answers rows with the weights that the model has now, whatever becomes of it."""
    kept = Pretrained(lab.model)

    def predict(rows: Examples) -> np.ndarray:
        kept.restore(lab.model)
        return outputs(lab, rows).logits

    return predict


def judged(lab: Lab) -> tuple[float, float]:
    """(-measure, loss) of the model on data.eval, which order better before worse; the curve of the report remembers them."""
    return noted(lab, outputs(lab, lab.eval))


def noted(lab: Lab, scored: Scored) -> tuple[float, float]:
    """As `judged`, of answers to data.eval."""
    value, loss = _items.value(lab.task, scored, lab.cfg.measure, len(lab.eval)), _items.loss(scored)
    lab.notes.setdefault("curve", []).append((round(lab.meter.used, 4), value, loss))
    return -value, loss


def micro_batches(data: Examples, config: ExamplesConfig, rows: np.ndarray) -> list[Batch]:
    """`rows` (numbers) as the micro-batches of one step."""
    return [data.batch(part) for part in data.cut(rows, config.tokens_per_micro_batch, 1)]


def draws(data: Examples, config: ExamplesConfig, seed: int, size: int | None = None) -> Iterator[np.ndarray]:
    """Numbers of `size` rows (not given: data.rows_per_step) without end: epoch behind epoch, each in an order of its own.

    Every draw is full: one may reach from an epoch into the next, so that all steps cost the same.
    """
    size, held = size or config.rows_per_step, np.empty(0, np.int64)
    for epoch in itertools.count():
        held = np.concatenate((held, data.order(config, seed, epoch)))
        while len(held) >= size:
            yield held[:size]
            held = held[size:]


def steps(lab: Lab, seed: int) -> Iterator[list[Batch]]:
    """Micro-batches of data.train for each step, without end."""
    config = lab.cfg.data
    return (micro_batches(lab.train, config, rows) for rows in draws(lab.train, config, seed))


@dataclass(frozen=True)
class Fit:
    """How `fit` trains, where it is not plain fine-tuning on data.train within all that is left."""

    until: float | None = None  # where the meter may stand at the end; None: at the limit
    passes: float = 1.0  # steps' worth that one step costs
    optim: OptimConfig | None = None  # None: that of the comparison
    score: tuple[StepLoss, Count] | None = None  # None: the comparison's objective
    batches: Iterator[list[Batch]] | None = None  # None: data.train in the order of the seed
    hold: Callable[[float], None] | None = None  # takes gradients away, by the share of the training that is done
    factors: dict[str, float] | None = None  # of rates; None: the head's


def fit(lab: Lab, seed: int, how: Fit = Fit(), reserve: Callable[[], float] = lambda: 0.0) -> Iterator[StepReport]:
    """Train the model, yielding after each step, until the next one would take what `reserve()` (steps' worth) keeps back."""
    meter, optim = lab.meter, how.optim or lab.cfg.optim
    end = meter.limit if how.until is None else how.until
    first, count = meter.used, planned(lab, how, reserve())
    rate = learning_rate(optim, MOMENTS if meter.timed else count)

    def done(step: int) -> float:
        """Share of the training before a step."""
        return min(1.0, (meter.used - first) / max(1e-9, end - first)) if meter.timed else (step - 1) / max(1, count)

    def at(step: int) -> float:
        return rate(1 + int((MOMENTS - 1) * done(step)) if meter.timed else step)

    hold = how.hold or (lambda share: None)
    factors = rate_factors(lab.model, lab.cfg.head) if how.factors is None else how.factors
    optimizer = build_optimizer(lab.model, optim, factors)
    score = how.score or method.score(lab.cfg.objective, lab.model)
    settings = StepSettings(at, optim.max_grad_norm, seed, hold_back=lambda step: hold(done(step)))
    batches = how.batches or steps(lab, seed)
    paid = itertools.takewhile(lambda _: meter.affords(how.passes + reserve(), end), batches)
    for report in train_steps(lab.accelerator, lab.model, optimizer, paid, *score, settings):
        meter.optimizer_steps += 1
        yield report


def planned(lab: Lab, how: Fit, reserve: float = 0.0) -> int:
    """Steps that `fit` will take; of a budget in seconds nobody knows them: 0."""
    if lab.meter.timed:
        return 0
    end = lab.meter.limit if how.until is None else how.until
    return max(0, int((end - lab.meter.used - reserve) / how.passes + _meter.ROUNDING))


def fit_best(lab: Lab, seed: int, evaluations: int, how: Fit = Fit()) -> None:
    """Train, and judge at even distances; the model ends with the weights that data.eval found best. 0: with the last ones."""
    meter, left = lab.meter, evaluations
    first, end = meter.used, meter.limit if how.until is None else how.until
    best: tuple[tuple[float, float], Pretrained] | None = None

    def judge() -> None:
        nonlocal best, left
        left -= 1
        found = judged(lab)
        if best is None or found < best[0]:
            best = found, Pretrained(lab.model)

    for _ in fit(lab, seed, how, lambda: left * lab.judging):
        share = (meter.used - first) / (end - first)
        if left > 1 and share >= 1 - (left - 1) / evaluations:
            judge()
    if left and meter.affords(lab.judging, end):
        judge()
    if best is not None:
        best[1].restore(lab.model)


def require(lab: Lab, name: str, least: float, why: str) -> None:
    """Raise ConfigError where budget.steps is below `least`, which the strategy called `name` needs."""
    if not lab.meter.timed and lab.meter.limit < least - _meter.ROUNDING:
        raise ConfigError(
            f"budget.steps {lab.meter.limit:g}: {name} needs at least {np.ceil(10 * least) / 10:g} ({why})"
        )


def check_evaluations(name: str, count: int) -> None:
    if count < 0:
        raise ConfigError(f"{name}: evaluations {count}: 0 or more")


def freeze_body(model: Any) -> None:
    """Only the head trains."""
    names = model.head_parameters
    for name, weight in model.named_parameters():
        weight.requires_grad_(name in names)
