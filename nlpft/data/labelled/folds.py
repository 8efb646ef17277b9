"""A dataset with labels -> folds: each a dataset folder with the splits train (all other rows) and test (its own)."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from nlpft.data import store
from nlpft.data.labelled import sampling, stratify
from nlpft.data.labelled.labels import REGRESSION, SINGLE
from nlpft.data.labelled.table import TAGGING, schema
from nlpft.errors import DataError
from nlpft.files import whole_folder

NEEDS = ("input_ids", "key")
COPY = "changed copy"  # note of a row that `nlpft label --augment` made of another one


class Fold(NamedTuple):
    """One fold on disk."""

    folder: Path  # holds the datasets train and test
    train: int  # rows
    rows: np.ndarray  # int64, numbers in the whole dataset of the rows of test, in rising order


def write(dataset: Path, output: Path, count: int, seed: int = 0) -> list[Fold]:
    """The rows of `dataset` in `count` folds below `output`; each row is in the test split of one, and in train of all others.

    Labels have the same proportions in each, rows of equal texts share a fold, and changed copies of rows are in no test split.
    Folders that hold these folds already stay. Raises DataError where the dataset has no labels, or too few texts.
    """
    table, facts = store.read(dataset, NEEDS), store.facts(dataset)
    if facts.get("problem_type") is None:
        raise DataError(
            f"{dataset}: a dataset without labels; make one that has them by `nlpft label FILES -o {dataset}`"
        )
    names = facts.get("label_names") or ()
    strata = sampling.strata(table, facts["problem_type"], names)
    part = stratify.folds(sampling.keys(table), strata, count, seed)
    own = np.array([COPY not in note for note in table.column("notes").to_pylist()])
    made = []
    for number in range(count):
        test, train = np.flatnonzero((part == number) & own), np.flatnonzero(part != number)
        fold = Fold(output / f"fold-{number}", len(train), test)
        _write(fold.folder, table, {"train": train, "test": test}, store.info(dataset), (count, seed, number))
        made.append(fold)
    return made


def subset(dataset: Path, output: Path, count: int, seed: int = 0) -> Path:
    """About `count` rows of `dataset` as a dataset in folder `output`, with every label in its proportion."""
    table, info = store.read(dataset, NEEDS), store.info(dataset)
    strata = sampling.strata(table, info["problem_type"], info.get("label_names") or ())
    rows = sampling.subset(sampling.keys(table), strata, count, seed)
    _write(output, table, {"train": rows}, info, (count, seed))
    return output / "train"


def _write(
    folder: Path, table: pa.Table, splits: dict[str, np.ndarray], info: dict[str, Any], which: Sequence[int]
) -> None:
    """Datasets of some rows of `table` in `folder`, by the names of their splits, unless they are there."""
    fingerprint = hashlib.sha256(f"{info['fingerprint']} {tuple(which)}".encode()).hexdigest()[:16]
    if store.is_whole(folder, fingerprint):
        return
    columns = schema(info["problem_type"])
    plain = {key: value for key, value in info.items() if key not in ("shards", "splits")}
    with whole_folder(folder, overwrite=True) as new:
        for split, rows in splits.items():
            part = new / f".{split}.part"
            taken = table.select(columns.names).take(pa.array(rows)).combine_chunks()
            store.write_part(part, taken.to_batches(), columns)
            counted = {**plain, "fingerprint": fingerprint, "label_counts": label_counts(taken, info)}
            store.assemble(new / split, [part], counted, split, columns)
            part.unlink()
        store.write_splits(new, list(splits), {**plain, "fingerprint": fingerprint})


def label_counts(table: pa.Table, info: dict[str, Any]) -> dict[str, int]:
    """How often each label stands in the rows of `table`; of a regression nothing."""
    if info["problem_type"] == REGRESSION:
        return {}
    names = info["label_names"]
    if info["problem_type"] in (SINGLE, TAGGING):
        column = table.column("target" if info["problem_type"] == SINGLE else "labels").combine_chunks()
        numbers = (column if info["problem_type"] == SINGLE else column.flatten()).to_numpy()
        found = np.bincount(numbers[numbers >= 0], minlength=len(names))
    else:
        found = np.asarray(table.column("target").to_pylist()).sum(0).astype(int)
    return dict(zip(names, found.tolist(), strict=True))
