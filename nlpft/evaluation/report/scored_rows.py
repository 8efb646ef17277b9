"""The model of a head's run, and the rows of its evaluations as they were scored, for what asks the model again."""

from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from nlpft.data import store
from nlpft.data.labelled.table import TAGGING
from nlpft.errors import ConfigError, DataError
from nlpft.evaluation import items
from nlpft.evaluation.report.facts import Run
from nlpft.evaluation.report.heads import HeadScores, Sample
from nlpft.models.heads import trained_head
from nlpft.models.load import device


class Rows(NamedTuple):
    """An evaluation's rows, and what was said of each."""

    table: pa.Table
    samples: list[Sample]


def model(run: Run, asked: str, dtype: str) -> Any:
    """The trained model in evaluation mode, on its device; `asked`: the option that needs it, such as '--map'.

    Raises ConfigError where no head was evaluated in the run, ModelError where the model cannot be loaded.
    """
    if not run.heads:
        raise ConfigError(f"{asked}: {run.path} has no evaluation of a head; recipes/classify.py and tag.py leave one")
    return trained_head(str(run.folder.model), dtype).to(device()).eval().requires_grad_(False)


def rows(run: Run, scores: HeadScores, asked: str) -> Rows:
    """The rows of one of the run's evaluations. Raises DataError where their dataset is not there, or no longer what it was."""
    found = items.read(run.folder.eval / scores.label)
    folder = found.results["nlpft"].get("dataset")
    if not folder:
        raise DataError(f"{asked}: {run.folder.eval / scores.label} does not say what dataset it is of; evaluate again")
    try:
        table = store.read(Path(folder), ("input_ids", "labels" if scores.kind == TAGGING else "target"))
    except DataError as error:
        raise DataError(f"{error}; {asked} reads the dataset: work in the folder where the run was started") from error
    by_id = [row for of in found.samples.values() for row in of.items()]
    samples = [row for _, row in sorted(by_id, key=lambda pair: pair[0])]
    if [row["doc"]["source"] for row in samples] != table.column("source").to_pylist():
        raise DataError(f"{folder}: holds other rows than {scores.label} was scored on; evaluate again")
    return Rows(table, samples)
