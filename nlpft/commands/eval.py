"""Score a model or adapter: tasks of lm-evaluation-harness, task files, and your own held-out instructions."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from nlpft.errors import ConfigError, ModelError, UserError
from nlpft.evaluation import again, results
from nlpft.evaluation.harness import HarnessConfig
from nlpft.evaluation.results import Outcome
from nlpft.files import check_free
from nlpft.formats._fields import Columns, Roles


@dataclass(frozen=True)
class Config:
    model: tyro.conf.Positional[str]
    """A hub id, a folder of weights or of an adapter, or a run folder (its model/)."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for results.json and samples_TASK.jsonl; its name is the label in reports. With --adapters, of such folders."""
    adapters: tuple[str, ...] = ()
    """Adapters to be put on the model, one after another, run folders or their model/: `output` then holds base/ and a folder
    for each, and the base is loaded and asked once."""
    tasks: tuple[str, ...] = ()
    """lm-eval's task names, or task files (.yaml) with their data beside them."""
    heldout: Path | None = None
    """Your own instruction file, ShareGPT or Alpaca: loss (nats/token) and exact match of the last answer of each row."""
    metrics: tuple[str, ...] = ()
    """More metrics of held-out answers: accuracy, f1, rouge, sacrebleu, chrf, seqeval (spans)."""
    format: str = "auto"
    """Format of the held-out file (`nlpft list formats`), or auto: told by each row's keys."""
    columns: Columns = Columns()
    roles: Roles = Roles()
    template: str = "auto"
    """Chat template of the held-out file: as in `nlpft convert`."""
    batch_size: int = 64
    """Held-out answers that are written at once."""
    max_new_tokens: int | None = None
    """Longest answer in tokens (default: the reference's length and half as much again)."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights: float32, bfloat16; auto: float32 on the CPU, bfloat16 on a GPU."""
    harness: HarnessConfig = HarnessConfig()
    force: bool = False
    """Evaluate an adapter on another base, or with another chat template, than it was trained with."""
    overwrite: bool = False
    """Replace the folder if it is already there."""


def run(config: Config) -> int:
    check(config)
    from nlpft.evaluation import harness, heldout
    from nlpft.evaluation import run as evaluation  # seconds of import, after the settings have been checked

    asked = evaluation.Asked(
        harness.load(config.tasks) if config.tasks else {},
        config.harness,
        config.heldout,
        replace(heldout.READING, format=config.format, columns=config.columns, roles=config.roles),
        config.template,
        config.metrics,
        config.batch_size,
        config.max_new_tokens,
    )
    call = again.call(config)
    with evaluation.working_folder(config.output, config.overwrite or again.goes_on(config.output, call)) as (
        new,
        parts,
    ):
        made = _adapters(config, asked, new, parts) if config.adapters else [_single(config, asked, new, parts)]
        failed = any(outcome.errors for _, outcome, _ in made)
        if new is not None:
            again.note(parts, call, failed)
    if new is not None:
        for label, outcome, about in made:
            show(label if config.adapters else "", outcome, about)
        print(f"-> {config.output}")
        if failed:
            print(f"the same call tries again what failed; answers are kept in {parts.parent}", file=sys.stderr)
    return int(failed or any(about.get("inactive") for _, _, about in made))


def check(config: Config) -> None:
    """Raise ConfigError for settings that mean nothing, RunExists where the folder is taken."""
    if not config.tasks and not config.heldout:
        raise ConfigError("nothing to evaluate: give --tasks, --heldout, or both")
    if config.heldout and not config.heldout.is_file():
        raise ConfigError(f"--heldout {config.heldout}: no such file")
    if config.metrics and not config.heldout:
        raise ConfigError("--metrics are of held-out answers: give --heldout, too")
    if config.batch_size < 1 or config.harness.batch_size < 1 or (config.harness.limit or 1) < 1:
        raise ConfigError("batch_size, harness.batch_size and harness.limit are at least 1")
    check_free(config.output, config.overwrite or again.goes_on(config.output, again.call(config)))


Made = tuple[str, Outcome, dict[str, Any]]  # label, outcome, what results.json says about it


def _single(config: Config, asked: Any, new: Path | None, parts: Path) -> Made:
    """The model by itself; it may be an adapter on its base."""
    from nlpft.evaluation import run, subjects
    from nlpft.evaluation.spread import Kept
    from nlpft.models.load import adapter_base, device, load_model
    from nlpft.models.pretrained import resolve
    from nlpft.rundir import model_folder

    name = model_folder(config.model)
    folder = resolve(name)
    subjects.check_readable(folder)
    base = adapter_base(folder)
    own = run.tools(name, asked)
    run.check_templates([folder], own, config.force)
    model = load_model(name, config.dtype).to(device()).eval()
    kept = Kept(
        parts, subjects.fingerprint([folder, *([resolve(base)] if base else [])], config.dtype, config.harness.engine)
    )
    about: dict[str, Any] = {"inactive": subjects.inactive(model)} if base else {}
    write = _engine(config, resolve(base) if base else folder, folder if base else None)
    with _progress(config) as progress:
        outcome = run.evaluate(model, own, asked, kept, write, progress)
    return _finish(config, config.output.name, config.model, outcome, about, new)


def _adapters(config: Config, asked: Any, new: Path | None, parts: Path) -> list[Made]:
    """The base, then each adapter on it; one that does not fit is noted, and the others go on."""
    from nlpft.evaluation import run, subjects
    from nlpft.evaluation.spread import Kept
    from nlpft.models.load import adapter_base, device, load_model
    from nlpft.models.pretrained import resolve
    from nlpft.rundir import model_folder

    name = model_folder(config.model)
    folder = resolve(name)
    if adapter_base(folder):
        raise ConfigError(f"{config.model}: is an adapter; with --adapters, name the base that they are put on")
    subjects.check_readable(folder)
    others = subjects.adapters(config.adapters, name, config.force)
    own = run.tools(name, asked)
    run.check_templates([s.folder for s in others], own, config.force)
    base = load_model(name, config.dtype).to(device()).eval()
    made = []
    for subject in (subjects.Subject(subjects.BASE, config.model, folder), *others):
        kept = Kept(parts, subjects.fingerprint([folder, subject.folder], config.dtype, config.harness.engine))
        try:
            outcome, about = _subject(config, asked, own, base, subject, kept)
        except ModelError as error:
            outcome, about = Outcome({}, {}, {subject.label: str(error)}, {}, {}), {}
            base = load_model(name, config.dtype).to(device()).eval()  # half an adapter may be on the old one
        target = new / subject.label if new else None
        made.append(_finish(config, subject.label, subject.name, outcome, about, target))
    if new:
        results.mark(new, [label for label, _, _ in made])
    return made


def _subject(
    config: Config, asked: Any, own: Any, base: Any, subject: Any, kept: Any
) -> tuple[Outcome, dict[str, Any]]:
    """The base, or one adapter on it, which is taken off again. Raises ModelError where it does not fit."""
    from nlpft.evaluation import run, subjects
    from nlpft.models.pretrained import resolve
    from nlpft.rundir import model_folder

    adapter = subject if subject.label != subjects.BASE else None
    model = subjects.put_on(base, adapter) if adapter else base
    about = run.about_adapter(model, adapter) if adapter else {}
    write = _engine(config, resolve(model_folder(config.model)), adapter and adapter.folder)
    with _progress(config) as progress:
        outcome = run.evaluate(model, own, asked, kept, write, progress)
    if adapter:
        model.unload()
    return outcome, about


def _finish(
    config: Config, label: str, name: str, outcome: Outcome, about: dict[str, Any], folder: Path | None
) -> Made:
    """Write one subject's results. Raises what went wrong where nothing was to be had and nothing else is asked."""
    outcome = results.checked(outcome)
    if not outcome.results.get("results") and outcome.errors and not config.adapters:
        raise UserError("; ".join(outcome.errors.values()))
    about = {"label": label, "model": name, "heldout": str(config.heldout or "") or None, **about}
    about |= {"errors": outcome.errors} if outcome.errors else {}
    about |= {"unparsed": outcome.unparsed} if outcome.unparsed else {}
    about |= {"cut": outcome.cut} if outcome.cut else {}
    if folder:
        folder.mkdir(exist_ok=True)
        results.write(folder, outcome.results, outcome.samples, about)
    return label, outcome, about


def _engine(config: Config, model: Path, adapter: Path | None) -> Any:
    """What writes answers, where that is not nlpft's own way."""
    if config.harness.engine != "vllm":
        return None
    from nlpft.evaluation import vllm_engine

    return vllm_engine.engine(model, adapter, config.dtype)


@contextlib.contextmanager
def _progress(config: Config) -> Iterator[Callable[[int], Any]]:
    """A bar for the answers to held-out rows; yields the function that is told how many more are done."""
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty() or not config.heldout) as bar:
        task = bar.add_task(f"answers to {config.heldout and config.heldout.name}", total=None)
        yield lambda done: bar.advance(task, done)


def show(label: str, outcome: Outcome, about: dict[str, Any]) -> None:
    """A line for each task and measure, and what is to be said besides."""
    table = Table("task", "measure", box=None, pad_edge=False, title=label or None, title_justify="left")
    table.add_column("value", justify="right")
    table.add_column("standard error", justify="right")
    for task, values in outcome.results.get("results", {}).items():
        for key, value in values.items():
            measure, _, how = key.partition(",")
            if isinstance(value, float) and not measure.endswith("_stderr"):
                error = values.get(f"{measure}_stderr,{how}")
                table.add_row(task, measure, f"{value:.4f}", f"{error:.4f}" if isinstance(error, float) else "")
    if table.row_count:
        Console().print(table)
    for remark in remarks(label, outcome, about):
        print(remark, file=sys.stderr)


def remarks(label: str, outcome: Outcome, about: dict[str, Any]) -> list[str]:
    """What a table of scores does not tell."""
    where = f"{label}: " if label else ""
    lines = [f"error: {where}{task} failed: {why}" for task, why in outcome.errors.items()]
    lines += [
        f"{where}{number} answers of {task.replace(',', ', filter ')} could not be read; they count as wrong"
        for task, number in outcome.unparsed.items()
    ]
    lines += [
        f"{where}{number} answers of {task} were cut short: prompt and answer fill the model's context"
        for task, number in outcome.cut.items()
    ]
    if about.get("inactive"):
        lines.append(f"error: {where}the adapter is inactive: with and without it, every logit of a probe is the same")
    return lines
