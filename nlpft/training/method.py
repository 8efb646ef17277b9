"""A tuning method's part in a run: the loaded model with what trains, its optimiser, and what is held back in a step."""

from collections.abc import Callable, Mapping
from typing import Any

from accelerate import Accelerator
from torch import nn

from nlpft.config import module_of
from nlpft.models.load import load_model, resharded, weight_type
from nlpft.training import zero
from nlpft.training.distributed import prepared
from nlpft.training.groups import describe
from nlpft.training.loop import Count, StepLoss, StepSettings
from nlpft.training.optim import OptimConfig, build_optimizer, learning_rate
from nlpft.training.regularize import RegularizeConfig, add_noise, attach

NOTHING = RegularizeConfig()


def load(
    name: str, dtype: str, tuning: Any, regularize: RegularizeConfig = NOTHING, load: Callable[..., Any] = load_model
) -> Any:
    """The model called `name`, loaded as the settings `tuning` say, with its noise and dropout and what trains.

    load: `load_model` for a causal LM, or what takes the same and gives another.
    """
    method = module_of(tuning)
    options = method.load_options(tuning, weight_type(dtype)) if hasattr(method, "load_options") else {}
    return method.apply(add_noise(load(name, dtype, **options), regularize), tuning)


def prepare(
    accelerator: Accelerator,
    model: nn.Module,
    optim: OptimConfig,
    tuning: Any,
    regularize: RegularizeConfig,
    factors: Mapping[str, float] | None = None,
) -> tuple[Any, Any]:
    """Model and optimiser, both on the accelerator's terms, with the rates, penalties and averages that the settings say.

    factors: of more weights' rates, by name. Call it before a checkpoint is loaded.
    """
    if zero.is_zero(accelerator):
        zero.check_method(hasattr(module_of(tuning), "hold"), regularize)
    optimizer = build_optimizer(model, optim, {**rate_factors(model, tuning), **(factors or {})})
    model, optimizer = prepared(accelerator, model, optimizer, optim.max_grad_norm)
    attach(optimizer, regularize)
    return model, optimizer


def score(objective: Any, model: nn.Module) -> tuple[StepLoss, Count]:
    """What a batch is scored by, as the settings `objective` say: the sum of its losses, and how many those are."""
    module = module_of(objective)
    return module.build(objective, model), module.num_targets


def described(optimizer: Any, lr: float) -> str:
    """One line for each group of weights: its name, how many numbers it has, its highest rate, and its decay."""
    return "\n".join(map(str, describe(optimizer.param_groups, lr)))


def step_settings(model: nn.Module, cfg: Any, max_steps: int, first_step: int = 0) -> StepSettings:
    """What the steps of a run have in common, by a recipe's settings `optim`, `tuning` and `seed`. model: unwrapped."""
    rate, hold_back = learning_rate(cfg.optim, max_steps), hold(resharded(model), cfg.tuning, max_steps)
    return StepSettings(rate, cfg.optim.max_grad_norm, cfg.seed, first_step, hold_back)


def rate_factors(model: nn.Module, tuning: Any) -> dict[str, float]:
    """Factors of learning rates that the method wants to differ, by name of parameter."""
    method = module_of(tuning)
    return method.rate_factors(model, tuning) if hasattr(method, "rate_factors") else {}


def hold(model: nn.Module, tuning: Any, max_steps: int) -> Callable[[int], None]:
    """What is to be called with the step after backward, before gradients are clipped; does nothing for most methods.

    model: unwrapped.
    """
    method = module_of(tuning)
    return method.hold(model, tuning, max_steps) if hasattr(method, "hold") else lambda step: None
