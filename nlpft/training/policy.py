"""Which weights train, by how many rows there are: a new head on few rows, the last blocks on more, everything on many."""

import dataclasses
from typing import Any, Literal, NamedTuple

from transformers import AutoConfig

from nlpft import plugins
from nlpft.data import store
from nlpft.errors import ConfigError
from nlpft.models.pretrained import resolve

Policy = Literal["as_set", "auto"]
FEW, MANY = 50, 1000  # rows; recipes/policies.py measures what wins where: at 50 a head alone loses (docs/LOG.md)


class Choice(NamedTuple):
    """What trains, and why."""

    tuning: Any  # a method's settings
    layer_decay: float
    why: str


def by_rows(rows: int, blocks: int) -> Choice:
    """What trains on `rows` rows of a model with `blocks` blocks."""
    if rows < FEW:
        tuning = plugins.settings("tuning", "head_only")
        return Choice(
            tuning, 1.0, f"{rows:,} rows are fewer than {FEW}: only the head trains, the body would learn them by heart"
        )
    if rows < MANY:
        last = max(1, blocks // 2)
        tuning = dataclasses.replace(plugins.settings("tuning", "freeze"), train_last=last)
        return Choice(
            tuning, 1.0, f"{rows:,} rows are {FEW} to {MANY:,}: the head and the last {last} of {blocks} blocks train"
        )
    tuning = plugins.settings("tuning", "full")
    return Choice(
        tuning, 0.9, f"{rows:,} rows are {MANY:,} or more: all weights train, each block at 0.9 of the rate above it"
    )


def chosen(cfg: Any) -> tuple[Any, str]:
    """`cfg` (a recipe's settings) with what its policy chooses, which from then on is set, and the reason.

    Raises ConfigError where a tuning method is set besides: one of the two would be ignored.
    """
    if cfg.policy == "as_set":
        return cfg, f"policy as_set: tuning.name {cfg.tuning.name}"
    default = type(cfg)()
    if cfg.tuning != default.tuning or cfg.optim.layer_decay != default.optim.layer_decay:
        raise ConfigError("policy auto chooses tuning and optim.layer_decay: leave them unset, or policy")
    rows = len(store.read(cfg.data.train, ("input_ids",)))
    blocks = AutoConfig.from_pretrained(resolve(cfg.model, weights=False)).get_text_config().num_hidden_layers
    found = by_rows(rows, blocks)
    optim = dataclasses.replace(cfg.optim, layer_decay=found.layer_decay)
    return dataclasses.replace(cfg, policy="as_set", tuning=found.tuning, optim=optim), f"policy auto: {found.why}"
