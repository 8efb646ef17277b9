"""What each row adds to a metric of the whole corpus, and the metric of such sums: so it can be resampled without its rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def of_labels(predictions: Sequence[int], references: Sequence[int], labels: Sequence[int]) -> np.ndarray:
    """By label whether it is said and true, said, true: [rows, 3 * labels]."""
    said, true = (np.asarray(x)[:, None] == np.asarray(labels) for x in (predictions, references))
    return np.concatenate([said & true, said, true], axis=1).astype(np.float64)


def shares(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 of each label from sums [..., 3 * labels]; 0 where a label is neither said nor true."""
    right, said, true = np.split(sums, 3, axis=-1)
    return _share(right, said), _share(right, true), _share(2 * right, said + true)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def of_texts(metric: Any, predictions: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """sacrebleu's statistics of each row, [rows, statistics]."""
    found = metric._extract_corpus_statistics(list(predictions), [list(references)])  # as its own significance tests do
    return np.array(found, np.float64)


def score_of_texts(metric: Any, sums: np.ndarray) -> np.ndarray:
    """sacrebleu's score of sums [..., statistics]."""
    rows = sums.reshape(-1, sums.shape[-1]).tolist()
    return np.array([metric._compute_score_from_stats(row).score for row in rows]).reshape(sums.shape[:-1])
