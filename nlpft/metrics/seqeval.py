"""F1 of spans in BIO or BIOES tags: right are those of the right type and ends (conlleval, Tjong Kim Sang & De Meulder 2003)."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from nlpft.metrics import _counts
from nlpft.metrics._info import info

KIND = "tags"
VALUES = ("overall_precision", "overall_recall", "overall_f1")


class Metric(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return info(__doc__, datasets.Sequence(datasets.Value("string")))

    def _compute(self, predictions: list[list[str]], references: list[list[str]]) -> dict[str, Any]:
        said, true = (Counter(spans(rows)) for rows in (predictions, references))
        kinds = sorted({kind for _, kind, _, _ in said | true})
        scores: dict[str, Any] = {kind: _scores(*(_only(x, kind) for x in (said, true))) for kind in kinds}
        for kind in kinds:
            scores[kind]["number"] = _only(true, kind).total()
        pairs = [pair for s, t in zip(predictions, references, strict=True) for pair in zip(s, t, strict=True)]
        overall = {f"overall_{name}": value for name, value in _scores(said, true).items()}
        return scores | overall | {"overall_accuracy": sum(s == t for s, t in pairs) / max(1, len(pairs))}


def counts(predictions: list[list[str]], references: list[list[str]]) -> np.ndarray:
    """Of each row the spans that are said and true, said, true."""
    both = [[Counter(spans([row])) for row in rows] for rows in (predictions, references)]
    return np.array([[(s & t).total(), s.total(), t.total()] for s, t in zip(*both, strict=True)], np.float64)


def score(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Of sums of such rows."""
    return {name: x[..., 0] for name, x in zip(VALUES, _counts.shares(sums), strict=True)}


def spans(rows: Sequence[Sequence[str]]) -> list[tuple[int, str, int, int]]:
    """(row, type, first tag, last tag) of each span. An I without a B before it begins a span, as for conlleval."""
    found = []
    for number, row in enumerate(rows):
        start, mark, kind = 0, "O", ""
        for i, tag in enumerate([*row, "O"]):
            now, _, what = tag.partition("-")
            what = what or now
            fresh = now in "BS" or mark in "ESO" or what != kind
            if mark != "O" and (fresh or now == "O"):
                found.append((number, kind, start, i - 1))
            if now != "O" and fresh:
                start = i
            mark, kind = now, what
    return found


def _only(found: Counter[tuple[int, str, int, int]], kind: str) -> Counter[tuple[int, str, int, int]]:
    return Counter({span: n for span, n in found.items() if span[1] == kind})


def _scores(said: Counter[Any], true: Counter[Any]) -> dict[str, float]:
    right = (said & true).total()
    precision, recall = (right / x.total() if x else 0.0 for x in (said, true))
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return {"precision": precision, "recall": recall, "f1": f1}
