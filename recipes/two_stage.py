"""Pretrain, then fine-tune, as one run that can be resumed: with what was retained after each stage, and what it gained.

nlpft train two_stage --first pretrain.yaml --second sft.yaml --general data/general --output_dir runs/two
"""

import importlib
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pretrain
from accelerate import PartialState
from rich.console import Console
from rich.table import Table

from nlpft import cli, config
from nlpft.commands.compare import table as compared
from nlpft.config import module_of
from nlpft.data import store
from nlpft.errors import ConfigError
from nlpft.evaluation import row_losses
from nlpft.evaluation.compare import Settings, compare
from nlpft.evaluation.tables import legend
from nlpft.models import kinds
from nlpft.recipes_dir import recipe_names
from nlpft.training import stages
from nlpft.training.stages import Stage


@dataclass(frozen=True)
class Config:
    first: Path
    """Settings of the first stage, as YAML for recipes/pretrain.py."""
    second: Path
    """Settings of the second stage, as YAML for its recipe; `model` is the first one's result."""
    recipe: str = "sft"
    """Recipe of the second stage."""
    output_dir: Path = Path("runs/two_stage")
    """Folder of manifest.json and of the stages' runs: first, second, alone."""
    general: Path | None = None
    """Dataset of text that no stage trains on: its loss before, after the first and after the second stage says what was kept.
    Rows longer than the model's context are left out."""
    alone: bool = True
    """Fine-tune without the first stage too, and compare on the second stage's data.eval."""
    confidence: float = 0.95
    """Share of intervals that hold the true gain."""
    resume: bool = False
    """Go on with the run in output_dir, or begin where there is none; a stage that is done is not run again."""


def main(cfg: Config) -> dict[str, Any]:
    """Run what is not done yet; returns the manifest."""
    manifest, say = (
        cfg.output_dir / "manifest.json",
        Console(stderr=True, quiet=not PartialState().is_main_process).print,
    )
    stages.read(manifest, cfg.resume)
    first = Stage("first", "pretrain", pretrain.main, settings(pretrain.Config, cfg.first, cfg.output_dir / "first"))
    start = str(first.cfg.output_dir / "start") if first.cfg.from_config else first.cfg.model
    second = fine_tuning(cfg, "second", str(first.model))
    alone = [fine_tuning(cfg, "alone", start)] if cfg.alone else []
    check(cfg, first, second)

    done = []
    for stage in (first, second, *alone):
        say(f"stage {stage.name}: " + ("run" if stages.run(manifest, stage) else "done before, not run again"))
        done.append(stage)
        if cfg.general:
            retained(manifest, first, start, done, cfg.general)
    if alone:
        found = compare(row_losses.of_run(alone[0].cfg), row_losses.of_run(second.cfg), Settings(cfg.confidence))
        stages.note(manifest, gain=[asdict(comparison) | {"verdict": comparison.verdict} for comparison in found])
        say(compared(found, "fine-tuned alone", "in two stages"), legend(cfg.confidence), sep="\n")
    known = stages.read(manifest)
    if cfg.general:
        say(retention_table(known["retention"]))
    return known


def settings(cls: Any, file: Path, output_dir: Path, *more: str) -> Any:
    """A stage's settings from its YAML file, with its place in this run."""
    return config.parse(cls, ["--config", str(file), "--output_dir", str(output_dir), "--no_resume", *more])


def fine_tuning(cfg: Config, name: str, model: str) -> Stage:
    """The second stage's recipe on the weights in `model`."""
    if cfg.recipe not in recipe_names() or cfg.recipe in ("pretrain", "two_stage"):
        raise ConfigError(f"recipe {cfg.recipe}: no recipe of a second stage; `nlpft list recipes` shows them all")
    module = importlib.import_module(cfg.recipe)
    return Stage(
        name, cfg.recipe, module.main, settings(module.Config, cfg.second, cfg.output_dir / name, "--model", model)
    )


def check(cfg: Config, first: Stage, second: Stage) -> None:
    """Raise UserError for what would come to light behind a stage only."""
    if first.cfg.dtype != second.cfg.dtype:
        raise ConfigError(
            f"dtype {first.cfg.dtype} in {cfg.first}, {second.cfg.dtype} in {cfg.second}: make them the same"
        )
    if cfg.alone and not second.cfg.data.eval:
        raise ConfigError(f"{cfg.second}: set data.eval, on which the gain is measured, or --no_alone")
    if cfg.general:
        store.read(cfg.general)
    if not 0 < cfg.confidence < 1:
        raise ConfigError(f"confidence {cfg.confidence}: a share between 0 and 1, such as 0.95")


def retained(manifest: Path, first: Stage, start: str, done: list[Stage], general: Path) -> None:
    """Note the loss on `general`, in nats per target, of the model before and after each of the stages that are done."""
    known = stages.read(manifest).get("retention", {})
    models = {"before": start} | {f"after {stage.name}": str(stage.model) for stage in done}
    objective = first.cfg.objective
    kind = kinds.check(start, objective.name, module_of(objective).KIND)
    for name in models.keys() - known.keys():
        head = (
            start if name in ("before", "after alone") else str(first.model)
        )  # of a classifier, which has lost its own
        model = row_losses.language_model(models[name], head, kind)
        place = general, objective, kind, None
        known[name] = row_losses.mean_loss(start, model, *place) if model else None
    stages.note(manifest, retention={name: known[name] for name in models})


def retention_table(retention: dict[str, float | None]) -> Table:
    """Losses on general text, and how far each is from the one before any stage."""
    made = Table("general text", "nats/target", "change", box=None, pad_edge=False)
    before = retention["before"]
    for name, loss in retention.items():
        if loss is None or before is None:
            made.add_row(name, "not measured", "")
        else:
            made.add_row(name, f"{loss:.4f}", f"{loss - before:+.4f}")
    return made


if __name__ == "__main__":
    sys.exit(cli.guarded(lambda: main(config.parse(Config, sys.argv[1:], prog="recipes/two_stage.py")) and 0))
