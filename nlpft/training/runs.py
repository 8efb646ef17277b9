"""A whole run of a recipe, as settings that a search puts together: begun in this process, watched, and its weights removed."""

import contextlib
import dataclasses
import gc
import importlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from nlpft import config
from nlpft.errors import ConfigError, TrainingError
from nlpft.samplers._dimensions import Point
from nlpft.search import ranges
from nlpft.training.settings import RunConfig
from nlpft.training.watching import Watch, watched

Cost = Callable[[Path, str], float]


class Recipe:
    """A recipe that trains, and the settings that all of its runs begin from; `flat`: those by dotted key."""

    def __init__(self, name: str, settings: Path) -> None:
        """name: of a recipe, or a .py file. Raises ConfigError where it is none that trains, or the settings are not its."""
        if name.endswith(".py"):
            sys.path.insert(0, str(Path(name).parent.absolute()))
        try:
            self.module: ModuleType = importlib.import_module(Path(name).stem)
        except ImportError as error:
            raise ConfigError(f"recipe {name}: cannot be imported ({error}); nlpft list shows the recipes") from error
        self.cls: type = getattr(self.module, "Config", object)
        if not issubclass(self.cls, RunConfig):
            raise ConfigError(f"recipe {name}: no recipe of one training; take classify, tag, sft or pretrain")
        self.base: Any = config.parse(self.cls, ["--config", str(settings)])
        self.flat = config.flat(self.base)
        self.plug_ins = [field.name for field in dataclasses.fields(self.cls) if "kind" in field.metadata]

    @property
    def tests_itself(self) -> bool:
        """Whether its runs score data.test at their end; else they can score data.eval only."""
        return hasattr(self.base.data, "test")

    def write(self, file: Path, point: Point) -> Path:
        """The settings of a candidate, as YAML that the recipe takes by --config."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(ranges.document(self.flat, point, self.plug_ins), encoding="utf-8")
        return file

    def settings(self, file: Path, point: Point) -> Any:
        """The settings of a candidate, written to `file` and checked. Raises ConfigError for a value that the recipe refuses."""
        return config.load(self.cls, self.write(file, point))

    def check(self, points: Iterable[Point]) -> None:
        """Raise ConfigError for a candidate with a value that the recipe refuses."""
        with tempfile.TemporaryDirectory() as folder:
            for point in points:
                self.settings(Path(folder) / "settings.yaml", point)


def trained(
    recipe: Recipe,
    folder: Path,
    point: Point,
    seed: int,
    cost: Cost,
    test: Path | None = None,
    watch: Watch | None = None,
) -> float:
    """What a run of `point` with `seed` comes to, less is better: its best evaluation or, with `test`, its score there.

    cost: of a run's folder and a measure's name, the measure on data.test. test: of a recipe that scores no data.test, the
    weights of the last step are scored, as no other data chose them.
    folder: what the run says is kept beside it, as FOLDER.log, and its settings as FOLDER.yaml; weights are removed.
    """
    own: Point = {"output_dir": str(folder), "seed": seed}
    if recipe.tests_itself:
        own["data.test"] = str(test) if test else None
    elif test:
        own |= {"data.eval": str(test), "eval_every": 0, "patience": 0}
    run = recipe.settings(folder.with_suffix(".yaml"), {**point, **own})
    try:
        with _said(folder.with_suffix(".log")), watched(watch) if watch else contextlib.nullcontext():
            best = recipe.module.main(run)
        if test and recipe.tests_itself:
            return cost(folder, getattr(run, "best", "loss"))
        if best.step is None:
            raise TrainingError("the run has no evaluation; set data.eval")
        return best.loss
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if torch.cuda.is_available():
            gc.collect()  # a model and its optimiser refer to each other, and the next run needs the room
            torch.cuda.empty_cache()


@contextlib.contextmanager
def _said(file: Path) -> Iterator[None]:
    """Within it all that is printed goes to `file`."""
    with file.open("a", encoding="utf-8") as out, contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        yield
