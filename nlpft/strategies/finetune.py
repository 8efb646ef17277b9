"""Fine-tuning: all weights, the head alone, or block after block: from the top, from the bottom, or one at a time.

top_down     the last block first, then one more at a time down to the embeddings (ULMFiT, Howard & Ruder 2018)
bottom_up    the embeddings first, then one more block at a time up to the last one
chain_thaw   the head, then each block alone from the embeddings up, then all (Felbo et al. 2017)

The head trains throughout, but for chain_thaw. Each stage has an equal share of the steps.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from nlpft.errors import ConfigError
from nlpft.models.blocks import blocks, depths
from nlpft.strategies import _lab
from nlpft.strategies._lab import Fit, Lab, Predict
from nlpft.training import optim
from nlpft.training.optim import OptimConfig

Order = Literal["all", "head", "top_down", "bottom_up", "chain_thaw"]


@dataclass(frozen=True)
class Config:
    name: Literal["finetune"] = "finetune"
    train: Order = "all"
    """What trains, and when."""
    optimizer: Literal["shared", "sgd", "momentum", "adagrad", "rmsprop", "adam", "adamw", "muon"] = "shared"
    """The optimiser; shared: that of the comparison."""
    lr: float = 0.0
    """Highest learning rate; 0: that of the comparison."""
    evaluations: int = 3
    """How often data.eval is scored, at even distances, to keep the best weights; it is paid for. 0: the last weights stay."""


def check(config: Config, lab: Lab) -> None:
    _lab.check_evaluations("finetune", config.evaluations)
    optim.check(chosen(config, lab.cfg.optim))
    if config.lr < 0:
        raise ConfigError(f"lr {config.lr:g}: above 0, or 0 for that of the comparison")
    stages = len(lowest_first(config.train, len(blocks(lab.model)) + 1))
    least = stages + config.evaluations * lab.judging
    _lab.require(
        lab, f"finetune --train {config.train}", least, f"{stages} stages, {config.evaluations} times data.eval"
    )


def train(config: Config, lab: Lab, seed: int) -> Predict:
    hold = None
    if config.train == "head":
        _lab.freeze_body(lab.model)
    elif config.train != "all":
        hold = held(lab.model, config.train)
    _lab.fit_best(lab, seed, config.evaluations, Fit(optim=chosen(config, lab.cfg.optim), hold=hold))
    return _lab.predictor(lab)


def chosen(config: Config, common: OptimConfig) -> OptimConfig:
    """The optimiser's settings: the comparison's, with what the strategy has of its own."""
    name = common.name if config.optimizer == "shared" else config.optimizer
    return replace(common, name=name, lr=config.lr or common.lr)


def lowest_first(order: Order, top: int) -> list[set[int]]:
    """Depths that train in each stage: embeddings 0, blocks 1 to top - 1, what lies behind them and the head `top`."""
    everything = set(range(top + 1))
    if order == "top_down":
        return [set(range(top - stage, top + 1)) for stage in range(1, top + 1)]
    if order == "bottom_up":
        return [set(range(stage + 1)) | {top} for stage in range(top)]
    if order == "chain_thaw":
        return [{top}, *({depth} for depth in range(top)), everything]
    return [everything]


def held(model: Any, order: Order) -> Callable[[float], None]:
    """What sets to None the gradients of all that does not train at a share of the training; optimisers pass over those."""
    stages, depth = lowest_first(order, len(blocks(model)) + 1), depths(model)
    top = len(blocks(model)) + 1
    placed = [(top if n in model.head_parameters else depth[n], weight) for n, weight in model.named_parameters()]

    def hold(share: float) -> None:
        now = stages[min(len(stages) - 1, int(share * len(stages) + 1e-9))]
        for place, weight in placed:
            if place not in now:
                weight.grad = None

    return hold
