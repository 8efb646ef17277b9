"""What a run's head says of held-out rows: by class precision, recall and F1, confusions, and how far its confidence holds.

Read from the samples that recipes/classify.py and tag.py write; spans of tags are counted as seqeval counts them.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nlpft.errors import DataError
from nlpft.evaluation import calibration, items
from nlpft.evaluation.calibration import Bin

Sample = dict[str, Any]
TRUE, SAID = "target", "filtered_resps"
PAIRS = 12  # confusions that are listed


class Class(NamedTuple):
    """How often a label, or a type of span, is there, is said, and is said rightly; or a mean over such."""

    name: str
    true: int
    said: int
    precision: float
    recall: float
    f1: float


class Confidence(NamedTuple):
    """Probabilities of the label that is said, at one temperature."""

    name: str
    temperature: float
    error: float  # expected calibration error
    bins: Sequence[Bin]


class HeadScores(NamedTuple):
    """One evaluation of a head."""

    label: str  # eval, test
    kind: str  # as in nlpft.types.Task
    rows: int
    values: Sequence[tuple[str, float]]  # the measures of results.json
    classes: Sequence[Class] = ()
    means: Sequence[Class] = ()
    labels: Sequence[str] = ()
    confusion: np.ndarray | None = None  # [true, said], rows; of one label
    confidences: Sequence[Confidence] = ()

    @property
    def each(self) -> str:
        """What is counted."""
        return "spans" if self.kind == "tagging" else "rows"

    @property
    def confused(self) -> list[tuple[str, str, int]]:
        """(true, said, rows): the most frequent confusions, most frequent first."""
        if self.confusion is None:
            return []
        wrong = self.confusion - np.diag(np.diag(self.confusion))
        order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
        return [(self.labels[i], self.labels[j], int(wrong[i, j]))
                for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True) if wrong[i, j]]  # fmt: skip


class Map(NamedTuple):
    """Features of one evaluation's rows, or of its words with a tag but O, in two dimensions (embeddings.py)."""

    label: str  # of the evaluation
    points: np.ndarray  # [points, 2]
    names: np.ndarray  # [points] true labels
    wrong: np.ndarray  # [points] bool
    shares: tuple[float, float]  # of the features' variance, along either axis


def read(evaluations: Path, model: Path, compared: bool = False) -> list[HeadScores]:
    """The evaluations of heads in folder `evaluations`; `model` holds nlpft.json with the temperature.

    What no head gave, or a recipe that did not note its labels, is left out. Raises DataError where a file is damaged; where
    evaluations are `compared` with a base model's, a results.json that cannot be read is left to that, which says so.
    """
    folders = [path.parent for path in sorted(evaluations.glob("*/results.json"))]
    return [scores(folder, temperature(model)) for folder in folders if _of_a_head(folder, compared)]


def _of_a_head(folder: Path, compared: bool) -> bool:
    try:
        return bool(_about(folder).get("problem_type"))
    except DataError:
        if compared:
            return False
        raise


def temperature(model: Path) -> float:
    """By which the logits of the model in this folder are to be divided; 1 where it says nothing of it."""
    try:
        return float(json.loads((model / "nlpft.json").read_text(encoding="utf-8")).get("temperature", 1.0))
    except OSError:
        return 1.0
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{model / 'nlpft.json'}: damaged ({error!r}); train again, or restore it") from error


def scores(folder: Path, temperature: float = 1.0) -> HeadScores:
    """The evaluation in `folder`. Raises DataError where its samples are damaged."""
    found, about = items.read(folder), _about(folder)
    kind, labels = about["problem_type"], about["labels"]
    rows = [row for _, by_id in sorted(found.samples.items()) for _, row in sorted(by_id.items())]
    plain = HeadScores(folder.name, kind, len(rows), _values(found.results), labels=labels)
    try:
        said = [{**row, SAID: row[SAID][0]} for row in rows]
        return READ[kind](plain, said, temperature) if kind in READ else plain
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DataError(f"{folder}: its samples are damaged ({error!r}); evaluate again") from error


def _about(folder: Path) -> dict[str, Any]:
    found = items.results(folder).get("nlpft")
    return found if isinstance(found, dict) else {}


def _values(results: dict[str, Any]) -> list[tuple[str, float]]:
    return [
        (key.removesuffix(",none").replace("_", " "), float(value))
        for of in results["results"].values()
        for key, value in of.items()
        if isinstance(value, int | float) and "_stderr" not in key
    ]


def _one_label(plain: HeadScores, rows: Sequence[Sample], temperature: float) -> HeadScores:
    number = {label: i for i, label in enumerate(plain.labels)}
    true, said = (np.array([number[row[key]] for row in rows]) for key in (TRUE, SAID))
    matrix = np.zeros((len(number), len(number)), np.int64)
    np.add.at(matrix, (true, said), 1)
    classes = _classes(plain.labels, matrix.sum(1), matrix.sum(0), np.diag(matrix))
    logits = np.array([row["logits"] for row in rows], np.float64)
    named = {"as trained": 1.0} | ({f"T = {temperature:.3g}": temperature} if temperature != 1 else {})
    sure = [_confidence(name, logits, true, t) for name, t in named.items()]
    values = [(name, value) for name, value in plain.values if name != "calibration error"]  # it is the first of `sure`
    return plain._replace(values=values, classes=classes, means=[_macro(classes)], confusion=matrix, confidences=sure)


def _confidence(name: str, logits: np.ndarray, true: np.ndarray, temperature: float) -> Confidence:
    p = calibration.probabilities(logits, temperature)
    error = calibration.expected_calibration_error(p, true)
    return Confidence(name, temperature, error, calibration.reliability(p, true))


def _several_labels(plain: HeadScores, rows: Sequence[Sample], temperature: float) -> HeadScores:
    true, said = ({(i, label) for i, row in enumerate(rows) for label in row[key]} for key in (TRUE, SAID))
    return _counted(plain, plain.labels, *(Counter(label for _, label in x) for x in (true, said, true & said)))


def _tags(plain: HeadScores, rows: Sequence[Sample], temperature: float) -> HeadScores:
    from nlpft.metrics.seqeval import spans  # with datasets, seconds of import that other heads do not need

    true, said = (set(spans([row[key] for row in rows])) for key in (TRUE, SAID))
    kinds = sorted({kind for _, kind, _, _ in true | said})
    return _counted(plain, kinds, *(Counter(kind for _, kind, _, _ in x) for x in (true, said, true & said)))


READ = {
    "single_label_classification": _one_label,
    "multi_label_classification": _several_labels,
    "tagging": _tags,
}


def _counted(
    plain: HeadScores, names: Sequence[str], true: Counter[str], said: Counter[str], right: Counter[str]
) -> HeadScores:
    classes = _classes(names, *([of[name] for name in names] for of in (true, said, right)))
    micro = _class("micro mean", true.total(), said.total(), right.total())
    return plain._replace(classes=classes, means=[micro, _macro(classes)])


def _classes(names: Sequence[str], true: Iterable[int], said: Iterable[int], right: Iterable[int]) -> list[Class]:
    return [_class(n, int(t), int(s), int(r)) for n, t, s, r in zip(names, true, said, right, strict=True)]


def _class(name: str, true: int, said: int, right: int) -> Class:
    precision, recall = (right / x if x else 0.0 for x in (said, true))
    return Class(name, true, said, precision, recall, 2 * right / (true + said) if right else 0.0)


def _macro(classes: Sequence[Class]) -> Class:
    """Every class counts the same."""
    means = (sum(getattr(c, key) for c in classes) / max(1, len(classes)) for key in ("precision", "recall", "f1"))
    return Class("macro mean", sum(c.true for c in classes), sum(c.said for c in classes), *means)
