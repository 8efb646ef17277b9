"""What is checked before a run loads or writes anything."""

import math
from typing import Any

from nlpft.config import module_of
from nlpft.data import loader, store
from nlpft.data.tokenizer import read_spec
from nlpft.data.vocabulary import spec_hash
from nlpft.errors import ConfigError
from nlpft.models.load import adapter_base, tokenizer_folder
from nlpft.models.pretrained import resolve
from nlpft.training import bad_steps, checkpoint, optim, regularize, tracking


def check(cfg: Any) -> None:
    """Raise UserError for what could not run or would train on something else than it seems.

    cfg: a recipe's settings, with `model`, `epochs`, `max_steps`, `eval_every`, `patience`, `seed`, `trackers`, `data`, `optim`,
    `regularize`, `checkpoint` and `bad_steps`.
    """
    if not 0 < cfg.epochs < math.inf or (cfg.max_steps is not None and cfg.max_steps < 1):
        raise ConfigError(f"epochs {cfg.epochs}, max_steps {cfg.max_steps}: a run has at least one step")
    for name in ("eval_every", "patience", "seed"):
        if getattr(cfg, name) < 0:
            raise ConfigError(f"{name} {getattr(cfg, name)}: must be 0 or more")
    if cfg.preflight and not hasattr(cfg.data, "packs_per_micro_batch"):
        raise ConfigError("preflight: tries the largest micro-batch of packs, and this recipe has none; leave it unset")
    data = module_of(cfg.data)
    data.check(cfg.data)
    optim.check(cfg.optim)
    regularize.check(cfg.regularize)
    checkpoint.check(cfg.checkpoint)
    bad_steps.check(cfg.bad_steps)
    tracking.check(cfg.trackers)
    if adapter_base(resolve(cfg.model)) is not None:
        raise ConfigError(
            f"model {cfg.model}: is an adapter; make whole weights of it first: nlpft merge {cfg.model} -o DIR"
        )
    tokenizer = spec_hash(read_spec(tokenizer_folder(cfg.model)))
    for folder in filter(None, (cfg.data.train, cfg.data.eval, getattr(cfg.data, "test", None))):
        store.read(folder, data.NEEDS)
        loader.check_tokenizer(folder, tokenizer, cfg.model)
