"""A candidate's training as a cheap trial: all share model, rows and features of frozen blocks (nlpft/search/fitness.py)."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from accelerate import Accelerator, PartialState
from accelerate.utils import set_seed

from nlpft.data import examples
from nlpft.data.example_batch import batch_of
from nlpft.data.examples import Examples
from nlpft.errors import ConfigError
from nlpft.models.compute import ComputeConfig, prepare
from nlpft.models.head_forward import choose
from nlpft.models.heads import new_head, rate_factors
from nlpft.models.load import autocast, context, weight_type
from nlpft.samplers._dimensions import Point
from nlpft.search import candidate, fitness, study
from nlpft.training import method
from nlpft.training.loop import StepReport, StepSettings, evaluate_loss, train_steps
from nlpft.training.optim import build_optimizer, learning_rate


class Shared(NamedTuple):
    """What all trials share."""

    accelerator: Accelerator
    model: Any  # with a new head, the same for all
    weights: fitness.Pretrained
    rows: dict[str, Examples]  # train, eval, test
    features: dict[str, fitness.Features]
    steps: int  # of a whole training
    source: Any = None  # the model that blocks are transplanted from


def shared(cfg: Any, dtype: str = "float32", source: str = "", probe: int = 0) -> Shared:
    """The model and the rows, loaded once. cfg: a recipe's settings `model`, `data`, `head`, `epochs` and `seed`.

    dtype: of the products; weights are float32 whatever it is. source: the model that blocks may be transplanted from.
    probe: epochs in which the head alone learns before all trials, on remembered features (Kumar et al. 2022): a new head's noise
    would hide for a long time what a candidate is worth.
    Raises ConfigError for settings by which rows would not be the same in every epoch.
    """
    if cfg.data.mixup or cfg.data.cut_mix or cfg.data.sampling == "smote":
        raise ConfigError(
            "data.mixup, data.cut_mix, data.sampling smote: trials share rows as they are; leave them unset"
        )
    if PartialState().num_processes > 1:
        raise ConfigError(
            "a trial takes one process: start it by nlpft train --num_processes 1, with --workers N to use several"
        )
    accelerator = Accelerator(mixed_precision=autocast(dtype))
    task = examples.task(cfg.data.train)
    giver = new_head(source, "float32", task, cfg.head).to(accelerator.device) if source else None
    set_seed(cfg.seed)
    model = new_head(cfg.model, "float32", task, cfg.head)
    if giver is not None and not candidate.fits(model, giver):
        raise ConfigError(f"source {source}: its blocks are not of the shape of {cfg.model}'s; take a sibling")
    model = prepare(model, ComputeConfig(compile=False), accelerator.device, weight_type(dtype))
    model = accelerator.prepare_model(model)
    layout, most = choose(model, batch_of, weight_type(dtype)), context(model)
    folders = {name: getattr(cfg.data, name) for name in ("train", "eval", "test")}
    rows = {name: Examples(folder, layout, most) for name, folder in folders.items() if folder is not None}
    features = {name: fitness.Features(model, data, cfg.data) for name, data in rows.items()}
    steps = max(1, round(cfg.epochs * rows["train"].steps_per_epoch(cfg.data)))
    common = Shared(accelerator, model, fitness.Pretrained(model), rows, features, steps, giver)
    return _probed(cfg, common, probe, cfg.seed) if probe else common


def fresh(cfg: Any, common: Shared, seed: int, probe: int = 0) -> Shared:
    """`common`, which is one of a new head, with another: as a run with `seed` begins it, then probed by its order of rows.

    So a setting that was chosen with one head is judged with others. A head that cfg.model has already stays as it is.
    """
    set_seed(seed)
    drawn = new_head(cfg.model, "float32", examples.task(cfg.data.train), cfg.head)
    head = {name: drawn.get_parameter(name).detach() for name in drawn.head_parameters}
    begun = common._replace(weights=common.weights.having(head))
    return _probed(cfg, begun, probe, seed) if probe else begun


def _probed(cfg: Any, common: Shared, epochs: int, seed: int) -> Shared:
    """`common` with a head that has learnt."""
    steps = epochs * common.rows["train"].steps_per_epoch(cfg.data)
    with fitting(cfg, common._replace(steps=steps), {}, seed) as (reports, _):
        for _report in reports:
            pass
    return common._replace(weights=fitness.Pretrained(common.model))


@contextmanager
def fitting(
    cfg: Any, common: Shared, point: Point, seed: int
) -> Iterator[tuple[Iterator[StepReport], Callable[[], float]]]:
    """Within it the steps of a candidate's training, and what gives its loss on data.eval, nats per target.

    cfg: a recipe's settings `data`, `head`, `optim` and `objective`. seed: of the order of rows, and dropout.
    """
    model, rows = common.model, common.rows
    common.weights.restore(model)
    if common.source is not None:
        candidate.transplant(model, common.source, point)
    candidate.train(model, point)
    with candidate.shortened(model, point), candidate.adapted(model, point, seed), ExitStack() as stack:
        first = fitness.first_trained(model)
        origin = candidate.taken_below(point, first)
        factors = {**candidate.rate_factors(model, point), **rate_factors(model, cfg.head)}
        optimizer = build_optimizer(model, cfg.optim, factors)
        loss, count = method.score(cfg.objective, model)
        settings = StepSettings(learning_rate(cfg.optim, common.steps), cfg.optim.max_grad_norm, seed)
        tell = stack.enter_context(fitness.resting(model, first))
        read = {name: fitness.read_by(loss, own, first, tell, origin) for name, own in common.features.items()}
        steps = fitness.steps(rows["train"], cfg.data, seed, common.steps)

        def evaluate() -> float:
            held_out = fitness.all_batches(rows["eval"], cfg.data)
            return evaluate_loss(common.accelerator, model, held_out, read["eval"], count)[0]

        yield train_steps(common.accelerator, model, optimizer, steps, read["train"], count, settings), evaluate


def over_seeds(
    cfg: Any,
    common: Shared,
    points: dict[str, Point],
    seeds: Iterable[int],
    probe: int,
    measure: Callable[[Shared], Any],
    folder: Path,
) -> dict[str, list[Any]]:
    """What `measure` says, which JSON can hold, behind the training of each of `points`, by name, for each of `seeds`.

    A seed draws head, rows and dropout, the same for all points. What `folder` keeps of an earlier call is not trained again.
    """
    found: dict[str, list[Any]] = {name: [] for name in points}
    for seed in seeds:
        begun = cache(partial(fresh, cfg, common, seed, probe))
        for name, point in points.items():
            train = partial(_measured, cfg, begun, point, seed, measure)
            found[name].append(study.once(folder, [point, seed], train))
    return found


def _measured(cfg: Any, begun: Callable[[], Shared], point: Point, seed: int, measure: Callable[[Shared], Any]) -> Any:
    common = begun()
    with fitting(cfg, common, point, seed) as (steps, _):
        for _report in steps:
            pass
        return measure(common)
