"""Rows whose features have been computed once: batches of features for a head, and new ones between them (SMOTE)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from nlpft.data.examples import Examples
from nlpft.errors import ConfigError, DataError
from nlpft.types import Layout

NEIGHBOURS = 5  # of a row, between which and it new ones are made; as in the paper


class Features(Examples):
    """Rows as features [rows, width], float32, with their targets and places, in packed batches of one token a row.

    Steps, sampling and places are those of `Examples`; a batch holds `features` [targets, width] too.
    """

    def __init__(
        self, folder: Path, layout: Layout, features: np.ndarray, targets: np.ndarray, places: list[str]
    ) -> None:
        ids = pa.array([[layout.pad_id]] * len(places), pa.list_(pa.int32()))
        target = pa.array(
            targets.tolist(), pa.list_(pa.float32()) if targets.ndim > 1 else pa.from_numpy_dtype(targets.dtype)
        )
        super().__init__(folder, layout, table=pa.table({"input_ids": ids, "target": target, "source": places}))
        self.features = torch.from_numpy(features)

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        return {**super().batch(rows), "features": self.features[list(rows) or [0]]}


def smote(features: np.ndarray, targets: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`features` [rows, width] and `targets` [rows] with new rows behind them, until every label has as many as the largest.

    A new row lies between one of its label and one of that row's neighbours (Chawla et al. 2002, SMOTE). Raises DataError where
    a label has one row only, which has no neighbour, and ConfigError where imbalanced-learn is not installed.
    """
    try:
        from imblearn.over_sampling import SMOTE
    except ImportError as error:
        raise ConfigError(
            f"data.sampling smote needs imbalanced-learn: pip install 'nlpft[heads]' ({error})"
        ) from error
    labels, counts = np.unique(targets, return_counts=True)
    if counts.min() < 2:
        raise DataError(
            f"data.sampling smote: label number {labels[counts.argmin()]} has one row, which has no neighbour; take over"
        )
    made = SMOTE(k_neighbors=int(min(NEIGHBOURS, counts.min() - 1)), random_state=seed)
    found, wanted = made.fit_resample(features, targets)
    return found.astype(np.float32), wanted.astype(targets.dtype)
