"""A laboratory over small data and a small encoder: what the tests of strategies share."""

from pathlib import Path

import compare_strategies

from nlpft import config
from nlpft.strategies import _cells, _lab


def words(bert: Path, data: Path, **more: object) -> list[str]:
    """Settings of compare_strategies for `data`, a folder with train, eval and test; lists are several values."""
    fixed = {"model": bert, "data.train": data / "train", "data.eval": data / "eval", "data.test": data / "test",
             "data.rows_per_step": 8, "budget.steps": 20, "optim.lr": 0.001, "seeds": 2, "resamples": 200, **more}  # fmt: skip
    named = {key.replace("__", "."): value for key, value in fixed.items()}
    return [
        word
        for key, value in named.items()
        for word in (f"--{key}", *map(str, value if isinstance(value, list) else [value]))
    ]


def settings(bert: Path, data: Path, **more: object) -> compare_strategies.Config:
    return config.parse(compare_strategies.Config, words(bert, data, **more))


def laboratory(bert: Path, data: Path, **more: object):
    """The laboratory, and the rows of the test."""
    return _lab.laboratory(settings(bert, data, **more))


def ran(lab, test, text: str, seed: int = 0) -> _cells.Cell:
    """The cell of one strategy, after its check."""
    (plan, _) = _cells.plans([text, "another: finetune"])
    plan.module.check(plan.settings, lab)
    return _cells.run(lab, test, plan, seed)
