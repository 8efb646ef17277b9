"""Cross-validate a recipe with a head: k folds of its training data, one run each, and one table over them.

nlpft train crossval --settings classify.yaml --folds 5 --output_dir runs/crossval
"""

import importlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from accelerate import PartialState
from rich.console import Console

from nlpft import cli, config
from nlpft.data import examples
from nlpft.data.labelled import folds
from nlpft.data.labelled.folds import Fold
from nlpft.errors import ConfigError
from nlpft.evaluation import cross_validation
from nlpft.evaluation.cross_validation import Spread
from nlpft.files import write_text
from nlpft.training import stages
from nlpft.training.stages import Stage


@dataclass(frozen=True)
class Config:
    settings: Path
    """Settings of every run, as YAML for the recipe. Its data.train is what is cut into folds; by data.eval, if it is set, each
    run chooses its best weights, never by the fold that it is scored on."""
    recipe: Literal["classify", "tag"] = "classify"
    """Recipe that is run."""
    folds: int = 5
    """Parts of the data; each is held out by one run."""
    fold_seed: int = 0
    """Of which rows share a fold; the runs' own seed stands in their settings."""
    output_dir: Path = Path("runs/crossval")
    """Folder of the folds' data, of their runs (fold-0, ...), of folds.json and eval/folds: all items, for `nlpft compare`."""
    confidence: float = 0.95
    """Share of intervals that hold the true mean."""
    resume: bool = False
    """Go on with what is in output_dir, or begin where there is nothing; a fold that is done is not run again."""


def main(cfg: Config) -> dict[str, Spread]:
    """Run the folds that are not done yet; returns each measure over all of them."""
    manifest = cfg.output_dir / "manifest.json"
    say = Console(stderr=True, quiet=not PartialState().is_main_process, soft_wrap=True).print
    check(cfg)
    stages.read(manifest, cfg.resume)

    # data: the same folds in every process, written by one
    whole = settings(cfg).data.train
    with PartialState().main_process_first():
        parts = folds.write(whole, cfg.output_dir / "data", cfg.folds, cfg.fold_seed)

    # runs: one for each fold
    runs = [stage(cfg, part) for part in parts]
    for run, part in zip(runs, parts, strict=True):
        rows = f"{part.train:,} rows to learn, {len(part.rows):,} to be scored on"
        say(f"{run.name}, {rows}: " + ("run" if stages.run(manifest, run) else "done before, not run again"))

    # the result: one table, and the items of all folds
    places = [run.cfg.output_dir for run in runs]
    found = cross_validation.measures(places, parts, cfg.confidence)
    if PartialState().is_main_process:
        about = {"label": cfg.output_dir.name, "model": settings(cfg).model, "dataset": str(whole)}
        cross_validation.pool(places, parts, found, cfg.output_dir / "eval/folds", about)
        write_text(cfg.output_dir / "folds.json", json.dumps({k: asdict(v) for k, v in found.items()}, indent=2) + "\n")
    say(*cross_validation.table(found, cfg.confidence), sep="\n", markup=False)
    return found


def settings(cfg: Config, *more: str) -> Any:
    """The recipe's settings, with `more` of them."""
    module = importlib.import_module(cfg.recipe)
    return config.parse(module.Config, ["--config", str(cfg.settings), "--no_resume", *more])


def stage(cfg: Config, part: Fold) -> Stage:
    """The run of one fold."""
    place = ["--data.train", str(part.folder / "train"), "--data.test", str(part.folder / "test")]
    own = settings(cfg, "--output_dir", str(cfg.output_dir / part.folder.name), *place)
    return Stage(part.folder.name, cfg.recipe, importlib.import_module(cfg.recipe).main, own)


def check(cfg: Config) -> None:
    """Raise UserError for what would come to light behind a fold only."""
    data = settings(cfg).data
    examples.check(data)
    if data.test:
        raise ConfigError(f"{cfg.settings}: data.test is set, but each run is scored on its fold; leave it unset")
    if not 0 < cfg.confidence < 1:
        raise ConfigError(f"confidence {cfg.confidence}: a share between 0 and 1, such as 0.95")


if __name__ == "__main__":
    sys.exit(cli.guarded(lambda: main(config.parse(Config, sys.argv[1:], prog="recipes/crossval.py")) and 0))
