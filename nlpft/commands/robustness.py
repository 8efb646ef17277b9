"""Measure how a trained head's measures fall under typing errors and under the worst small change of the embeddings."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from nlpft.data.labelled.options import LabelColumns, LabelOptions
from nlpft.errors import ConfigError
from nlpft.files import check_free, write_text
from nlpft.rundir import model_folder


@dataclass(frozen=True)
class Config:
    model: tyro.conf.Positional[str]
    """Run folder, or a folder with a model that has a head of nlpft's."""
    file: tyro.conf.Positional[Path]
    """Labelled rows that the model has not learnt from, in any form that `nlpft label` reads."""
    noise: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.4)
    """Shares of the words, from 0 to 1, in which a character goes, doubles, or changes places with the next."""
    gradient: tuple[float, ...] = (0.0, 0.01, 0.02, 0.05, 0.1)
    """How far each row's embeddings are moved along the gradient of the loss: shares of their norm (FGM, Miyato et al. 2017)."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """File for the same numbers as JSON."""
    columns: LabelColumns = field(default_factory=LabelColumns)
    label_separator: str = ""
    """What parts several labels in one column, such as a comma; empty: a row has one."""
    encoding: str = "utf-8"
    """Of the file, such as latin-1."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights; auto: float32 on the CPU, bfloat16 on a GPU."""
    seed: int = 0
    """Of the typing errors."""
    overwrite: bool = False
    """Replace the output if it is already there."""


def run(config: Config) -> int:
    _check(config)
    from nlpft.data.tokenizer import TextTokenizer  # seconds of import, after the settings have been checked
    from nlpft.evaluation import robustness
    from nlpft.models.heads import task_of, trained_head
    from nlpft.models.load import device, tokenizer_folder

    name = model_folder(config.model)
    model, tokenizer = trained_head(name, config.dtype).to(device()), TextTokenizer(tokenizer_folder(name))
    task = task_of(model)
    options = LabelOptions(
        task="tag" if task.kind == "tagging" else "classify",
        columns=config.columns,
        label_separator=config.label_separator,
        encoding=config.encoding,
    )
    rows = robustness.read(str(config.file), task, options)
    noise = robustness.under_noise(model, tokenizer, rows, config.noise, config.seed)
    gradient = robustness.under_gradient(model, tokenizer, rows, config.gradient)
    found = {
        "noise": [{"strength": s} | values for s, values in zip(config.noise, noise, strict=True)],
        "gradient": [{"strength": s} | values for s, values in zip(config.gradient, gradient, strict=True)],
    }
    console = Console(highlight=False)
    console.print(
        f"{len(rows.examples):,} rows of {config.file}" + f", {rows.left_out:,} left out" * (rows.left_out > 0)
    )
    for title, lines in (("typing errors", found["noise"]), ("embeddings along the gradient", found["gradient"])):
        console.print(_table(title, lines))
    if config.output:
        write_text(config.output, json.dumps({"model": name, "file": str(config.file), **found}, indent=2) + "\n")
    return 0


def _check(config: Config) -> None:
    """Raise ConfigError for strengths that mean nothing, and an output that is there."""
    if bad := [x for x in config.noise if not 0 <= x <= 1]:
        raise ConfigError(f"--noise {bad[0]:g}: a share of the words, from 0 to 1")
    if bad := [x for x in config.gradient if not x >= 0]:
        raise ConfigError(f"--gradient {bad[0]:g}: a share of the embeddings' norm, 0 or more")
    if config.output:
        check_free(config.output, config.overwrite)


def _table(title: str, lines: list[dict[str, float]]) -> Table:
    table = Table("strength", box=None, title=title, title_justify="left")
    shown = [key for key in lines[0] if key != "strength"][:4] if lines else []
    for key in shown:
        table.add_column(key, justify="right")
    for line in lines:
        table.add_row(f"{line['strength']:g}", *(f"{line[key]:.4f}" for key in shown))
    return table
