"""Which weights train, by how many rows there are: a new head on few rows, the last blocks on more, everything on many."""

import dataclasses
from typing import Any, Literal, NamedTuple

from transformers import AutoConfig

from nlpft import plugins
from nlpft.data import store
from nlpft.errors import ConfigError
from nlpft.models.pretrained import resolve

Policy = Literal["as_set", "auto"]
FEW, MANY = 25, 200  # rows; by recipes/policies.py (docs/LOG.md): at 25 a head alone loses, at 200 frozen blocks do


class Choice(NamedTuple):
    """What trains, and why."""

    tuning: Any  # a method's settings
    why: str


def by_rows(rows: int, blocks: int) -> Choice:
    """What trains on `rows` rows of a model with `blocks` blocks."""
    if rows < FEW:
        tuning = plugins.settings("tuning", "head_only")
        return Choice(
            tuning, f"{rows:,} rows are fewer than {FEW}: only the head trains, the body would learn them by heart"
        )
    if rows < MANY:
        last = max(1, blocks // 2)
        tuning = dataclasses.replace(plugins.settings("tuning", "freeze"), train_last=last)
        return Choice(
            tuning, f"{rows:,} rows are {FEW} to {MANY:,}: the head and the last {last} of {blocks} blocks train"
        )
    return Choice(plugins.settings("tuning", "full"), f"{rows:,} rows are {MANY:,} or more: all weights train")


def chosen(cfg: Any) -> tuple[Any, str]:
    """`cfg` (a recipe's settings) with what its policy chooses, which from then on is set, and the reason.

    Raises ConfigError where a tuning method is set besides: one of the two would be ignored.
    """
    if cfg.policy == "as_set":
        return cfg, f"policy as_set: tuning.name {cfg.tuning.name}"
    default = type(cfg)()
    if cfg.tuning != default.tuning:
        raise ConfigError("policy auto chooses tuning: leave that unset, or policy")
    rows = len(store.read(cfg.data.train, ("input_ids",)))
    blocks = AutoConfig.from_pretrained(resolve(cfg.model, weights=False)).get_text_config().num_hidden_layers
    found = by_rows(rows, blocks)
    return dataclasses.replace(cfg, policy="as_set", tuning=found.tuning), f"policy auto: {found.why}"
