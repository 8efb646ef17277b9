"""Which rows are taken, and how often: few-shot draws, subsets, over- and under-sampling; rows stay where they are.

Draws follow a row's key and the seed, as splits do: other rows do not matter, and a larger draw holds a smaller one.
"""

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
import pyarrow as pa

from nlpft.data.labelled import stratify
from nlpft.data.labelled.labels import MULTI, REGRESSION, SINGLE
from nlpft.data.labelled.table import TAGGING
from nlpft.data.select.keys import WORD, uniform
from nlpft.errors import DataError

Seed = int | tuple[int, ...]  # several numbers: of a run, and of its epoch


def strata(table: pa.Table, problem_type: str, label_names: Sequence[str] = ()) -> list[tuple[Hashable, ...]]:
    """What `stratify.assign`, `folds` and `few_shot` spread evenly: each row's labels, quantile, or types of spans.

    table: a dataset's rows (table.py); label_names: of its facts, for the types of tags.
    """
    if problem_type == TAGGING:
        kinds = [name.partition("-")[2] or name for name in label_names]
        outside = {i for i, name in enumerate(label_names) if name == "O"}
        rows = table.column("labels").to_pylist()
        return [tuple(sorted({kinds[tag] for tag in row if tag >= 0 and tag not in outside})) for row in rows]
    found = table.column("target").to_pylist()
    if problem_type == REGRESSION:
        return list(stratify.bins(found))
    if problem_type == MULTI:
        return [tuple(i for i, bit in enumerate(row) if bit) for row in found]
    assert problem_type == SINGLE
    return [(target,) for target in found]


def keys(table: pa.Table) -> list[int]:
    """Each row's key: equal for equal texts."""
    return table.column("key").to_pylist()


def few_shot(keys: Sequence[int], labels: Sequence[Sequence[Hashable]], count: int, seed: int = 0) -> np.ndarray:
    """Numbers of rows, int64, in rising order: `count` for each label, of different texts; a row with several counts for each.

    From the rarest label on, a row is taken while one of its labels lacks rows. Raises DataError naming a label with too few.
    """
    total = Counter(label for own in labels for label in set(own))
    lacking = dict.fromkeys(total, count)
    members: dict[Hashable, list[int]] = {label: [] for label in total}
    for row in sorted(range(len(keys)), key=lambda row: (uniform(keys[row] & WORD, seed, "few-shot"), row)):
        for label in set(labels[row]):
            members[label].append(row)
    taken: dict[int, int] = {}
    for label in sorted(total, key=lambda label: (total[label], str(label))):
        for row in members[label]:
            if lacking[label] <= 0:
                break
            if keys[row] not in taken:
                taken[keys[row]] = row
                for own in set(labels[row]):
                    lacking[own] -= 1
        if lacking[label] > 0:
            raise DataError(
                f"label {label!r} has {count - lacking[label]} different texts, fewer than {count}; take fewer"
            )
    return np.array(sorted(taken.values()), np.int64)


def subset(keys: Sequence[int], labels: Sequence[Sequence[Hashable]], count: int, seed: int = 0) -> np.ndarray:
    """Numbers of about `count` rows, int64, in rising order, with every label in its proportion and equal texts together."""
    if count >= len(keys):
        return np.arange(len(keys))
    share = count / len(keys)
    return np.flatnonzero(stratify.assign(keys, labels, [share, 1 - share], seed) == 0)


def oversampled(targets: Sequence[int] | np.ndarray, seed: Seed = 0, share: float = 1.0) -> np.ndarray:
    """Numbers of rows, int64: every row, and rows of the rarer classes again until each has `share` of the largest one's rows.

    A class's rows come equally often, but for one time more for some.
    """
    classes, counts = np.unique(np.asarray(targets), return_counts=True)
    wanted = np.maximum(counts, np.ceil(share * counts.max()).astype(np.int64))
    return _resampled(np.asarray(targets), classes, wanted, seed)


def undersampled(targets: Sequence[int] | np.ndarray, seed: Seed = 0, ratio: float = 1.0) -> np.ndarray:
    """Numbers of rows, int64: of each class at most `ratio` times as many as the rarest one has, none twice."""
    classes, counts = np.unique(np.asarray(targets), return_counts=True)
    wanted = np.minimum(counts, np.floor(ratio * counts.min()).astype(np.int64))
    return _resampled(np.asarray(targets), classes, np.maximum(wanted, 1), seed)


def _resampled(targets: np.ndarray, classes: np.ndarray, wanted: np.ndarray, seed: Seed) -> np.ndarray:
    draw = np.random.default_rng(seed)
    out = []
    for label, count in zip(classes, wanted.tolist(), strict=True):
        rows = np.flatnonzero(targets == label)
        whole, rest = divmod(count, len(rows))
        out.append(np.concatenate([np.tile(rows, whole), draw.permutation(rows)[:rest]]))
    return np.sort(np.concatenate(out))
