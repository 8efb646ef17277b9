"""k-fold cross-validation: the folds' measures as one table, and their items as one evaluation folder.

Interval of a mean over folds: Student's t, with the variance corrected for training sets that share rows (Nadeau & Bengio 2003,
Inference for the Generalization Error): (1/k + test rows / training rows) times the variance between folds, not 1/k times.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from nlpft.data.labelled.folds import Fold
from nlpft.evaluation import items, results
from nlpft.evaluation.tables import markdown
from nlpft.files import whole_folder


@dataclass(frozen=True)
class Spread:
    """A measure over folds."""

    values: tuple[float, ...]  # one a fold
    mean: float
    deviation: float  # between folds, with k - 1
    error: float  # standard error of the mean, corrected
    low: float
    high: float


def spread(values: Sequence[float], test_share: float, confidence: float = 0.95) -> Spread:
    """Mean, deviation and corrected interval of `values` [folds].

    test_share: test rows / training rows of a fold (with k folds 1 / (k - 1)).
    """
    k, mean, deviation = len(values), float(np.mean(values)), float(np.std(values, ddof=1))
    error = deviation * math.sqrt(1 / k + test_share)
    half = float(stats.t.ppf((1 + confidence) / 2, k - 1)) * error
    return Spread(tuple(map(float, values)), mean, deviation, error, mean - half, mean + half)


def measures(runs: Sequence[Path], folds: Sequence[Fold], confidence: float = 0.95) -> dict[str, Spread]:
    """Each measure of the folds' evaluations in `runs` (their eval/test), by name; one that a fold lacks is left out."""
    found = [_values(run / "eval/test") for run in runs]
    share = sum(len(fold.rows) for fold in folds) / sum(fold.train for fold in folds)
    names = [name for name in found[0] if all(name in one for one in found)]
    return {name: spread([one[name] for one in found], share, confidence) for name in names}


def _values(folder: Path) -> dict[str, float]:
    (values,) = items.results(folder)["results"].values()
    plain = {key.removesuffix(",none"): value for key, value in values.items() if key.endswith(",none")}
    return {key: value for key, value in plain.items() if not key.endswith("_stderr")}


def table(found: dict[str, Spread], confidence: float = 0.95) -> list[str]:
    """Lines of a Markdown table: a measure a line; mean, standard deviation, interval, and each fold."""
    folds = len(next(iter(found.values())).values)
    header = ["measure", "mean", "deviation", f"{100 * confidence:g} % interval", *(f"fold {n}" for n in range(folds))]
    rows = [
        [
            name,
            f"{s.mean:.4f}",
            f"{s.deviation:.4f}",
            f"{s.low:.4f} to {s.high:.4f}",
            *(f"{value:.4f}" for value in s.values),
        ]
        for name, s in found.items()
    ]
    return markdown(header, rows)


def pool(
    runs: Sequence[Path], folds: Sequence[Fold], found: dict[str, Spread], output: Path, about: dict[str, Any]
) -> None:
    """Write the items of all folds to `output` as one evaluation, each numbered by its row in the whole dataset.

    Its measures are the means over folds. `nlpft compare` takes two such folders of the same dataset.
    """
    first = items.results(runs[0] / "eval/test")
    (name,) = first["results"]
    rows = [
        row
        for run, fold in zip(runs, folds, strict=True)
        for row in _rows(run / f"eval/test/samples_{name}.jsonl", fold)
    ]
    rows.sort(key=lambda row: row["doc_id"])
    values: dict[str, Any] = {"alias": name}
    for key, one in found.items():
        values |= {f"{key},none": one.mean, f"{key}_stderr,none": one.error}
    counted = {name: {"original": len(rows), "effective": len(rows)}}
    said = {**first, "results": {name: values}, "n-samples": counted}
    with whole_folder(output, overwrite=True) as new:
        results.write(new, said, {name: rows}, about)


def _rows(samples: Path, fold: Fold) -> list[dict[str, Any]]:
    """The items of one fold, renumbered."""
    lines = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    return [{**row, "doc_id": int(fold.rows[row["doc_id"]]), "fold": fold.folder.name} for row in lines]
