"""Score a model or adapter: tasks of lm-evaluation-harness, task files, and your own held-out instructions."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from nlpft.errors import ConfigError
from nlpft.evaluation import results
from nlpft.evaluation.harness import HarnessConfig
from nlpft.files import check_free


@dataclass(frozen=True)
class Config:
    model: tyro.conf.Positional[str]
    """A hub id, a folder of weights or of an adapter, or a run folder (its model/)."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for results.json and samples_TASK.jsonl; its name is the label in reports."""
    tasks: tuple[str, ...] = ()
    """lm-eval's task names, or task files (.yaml) with their data beside them."""
    heldout: Path | None = None
    """Your own instruction file, ShareGPT or Alpaca: loss (nats/token) and exact match of the last answer of each row."""
    format: str = "auto"
    """Format of the held-out file: sharegpt, alpaca, auto."""
    template: str = "auto"
    """Chat template of the held-out file: as in `nlpft convert`."""
    batch_size: int = 64
    """Held-out answers that are written at once."""
    max_new_tokens: int | None = None
    """Longest answer in tokens (default: the reference's length and half as much again)."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights: float32, bfloat16; auto: float32 on the CPU, bfloat16 on a GPU."""
    harness: HarnessConfig = HarnessConfig()
    overwrite: bool = False
    """Replace the folder if it is already there."""


def run(config: Config) -> int:
    if not config.tasks and not config.heldout:
        raise ConfigError("nothing to evaluate: give --tasks, --heldout, or both")
    if config.heldout and not config.heldout.is_file():
        raise ConfigError(f"--heldout {config.heldout}: no such file")
    if config.batch_size < 1 or config.harness.batch_size < 1 or (config.harness.limit or 1) < 1:
        raise ConfigError("batch_size, harness.batch_size and harness.limit are at least 1")
    check_free(config.output, config.overwrite)
    from nlpft.models.load import device, load_model  # seconds of import, after the settings have been checked
    from nlpft.rundir import model_folder

    name = model_folder(config.model)
    model = load_model(name, config.dtype).to(device()).eval()
    parts = []
    if config.heldout:
        parts.append(_heldout(config, config.heldout, model, name))
    if config.tasks:
        from nlpft.evaluation import harness
        from nlpft.models.load import load_tokenizer

        parts.append(harness.evaluate(model, load_tokenizer(name), config.tasks, config.harness))
    scores = results.merge([part for part, _ in parts])
    samples = results.merge([part for _, part in parts])
    about = {"label": config.output.name, "model": config.model, "heldout": str(config.heldout or "") or None}
    results.write(config.output, scores, samples, about, config.overwrite)
    show(scores, config.output)
    return 0


def _heldout(config: Config, file: Path, model: Any, name: str) -> tuple[dict[str, Any], results.Samples]:
    from nlpft.data.tokenizer import TextTokenizer
    from nlpft.evaluation import heldout
    from nlpft.models.load import tokenizer_folder

    tokenizer = TextTokenizer(tokenizer_folder(name))
    data = heldout.load(file, tokenizer, tokenizer.chat_template(config.template), config.format, config.harness.limit)
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(f"answers to {file.name}", total=len(data.rows))
        return heldout.evaluate(
            model,
            tokenizer,
            data,
            batch_size=config.batch_size,
            max_new_tokens=config.max_new_tokens,
            progress=lambda done: bar.update(task, completed=done),
        )


def show(scores: dict, output: Path) -> None:
    """A line for each task and measure."""
    table = Table("task", "measure", box=None, pad_edge=False)
    table.add_column("value", justify="right")
    table.add_column("standard error", justify="right")
    for task, values in scores["results"].items():
        for key, value in values.items():
            measure, _, how = key.partition(",")
            if isinstance(value, float) and not measure.endswith("_stderr"):
                error = values.get(f"{measure}_stderr,{how}")
                table.add_row(task, measure, f"{value:.4f}", f"{error:.4f}" if isinstance(error, float) else "")
    Console().print(table)
    print(f"-> {output}")
