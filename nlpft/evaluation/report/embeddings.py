"""A map of what a head reads: the features of an evaluation's rows, or tagged words, in two dimensions (PCA, Pearson 1901)."""

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from nlpft.data.example_batch import batch_of
from nlpft.data.examples import Examples
from nlpft.data.labelled.labels import MULTI, REGRESSION
from nlpft.data.labelled.table import TAGGING
from nlpft.errors import ConfigError
from nlpft.evaluation import head_scores
from nlpft.evaluation.report import scored_rows
from nlpft.evaluation.report.facts import Run
from nlpft.evaluation.report.heads import SAID, TRUE, HeadScores, Map, Sample
from nlpft.evaluation.robustness import ROWS
from nlpft.evaluation.spread import process
from nlpft.models import attention
from nlpft.models.head_forward import choose, features
from nlpft.models.heads import with_head

ASKED = "--map"
FEWEST = 3  # points of a map


def with_maps(run: Run) -> Run:
    """`run` with a map of each evaluation, where its rows have labels.

    Raises ConfigError without a head or for an architecture whose features are not to be had, DataError where the rows are no
    longer there.
    """
    model = scored_rows.model(run, ASKED, "auto")  # a GPU reads rows without padding in half precision only
    own = with_head(model)
    own.set_attn_implementation(attention.NAME)
    layout = choose(model, batch_of)
    if not layout.packed:
        raise ConfigError(f"{ASKED}: {type(own).__name__} takes no rows without padding, by which features are read")
    found = []
    for scores in run.heads:
        if scores.kind != REGRESSION:
            rows = scored_rows.rows(run, scores, ASKED)
            data = Examples(Path(), layout, table=rows.table)
            read = head_scores.outputs(process(), model, data, ROWS, compute=features).logits
            found.append(_map(scores, read, rows.samples))
    return replace(run, maps=[made for made in found if made is not None])


def _map(scores: HeadScores, read: np.ndarray, samples: list[Sample]) -> Map | None:
    """The map of features `read` [rows or words, width]; None of too few."""
    names, wrong = _answers(scores.kind, samples)
    shown = names != "O" if scores.kind == TAGGING else np.ones(len(names), bool)
    if shown.sum() < FEWEST:
        return None
    points, shares = project(read[shown])
    return Map(scores.label, points, names[shown], wrong[shown], shares)


def _answers(kind: str, samples: list[Sample]) -> tuple[np.ndarray, np.ndarray]:
    """True labels, and which are not what was said; of tags those of all words, spans by their type."""
    pairs: list[tuple[Any, Any]] = [(row[TRUE], row[SAID][0]) for row in samples]
    if kind == TAGGING:
        pairs = list(chain.from_iterable(zip(true, said, strict=True) for true, said in pairs))
        names = [true.partition("-")[2] or true for true, _ in pairs]
    elif kind == MULTI:
        names = [", ".join(true) or "no label" for true, _ in pairs]
    else:
        names = [true for true, _ in pairs]
    return np.array(names, object), np.array([true != said for true, said in pairs], bool)


def project(values: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """`values` [points, width] along the two directions of the largest variance [points, 2], and its shares."""
    from sklearn.decomposition import PCA  # a second of import

    made = PCA(n_components=2, svd_solver="full")
    with np.errstate(invalid="ignore"):  # 0 / 0, of points that are all the same
        points = made.fit_transform(values.astype(np.float64))
    first, second = np.nan_to_num(made.explained_variance_ratio_).tolist()
    return points, (first, second)
