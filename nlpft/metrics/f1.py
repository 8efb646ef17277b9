"""Harmonic mean of precision and recall over labels, by scikit-learn; `average` as there."""

from sklearn.metrics import f1_score

from nlpft.metrics import _by_label

KIND = "label"
VALUES = ("f1",)
counts, score = _by_label.counts, _by_label.scorer("f1")


class Metric(_by_label.ByLabel):
    VALUE, ABOUT = "f1", __doc__
    of = staticmethod(f1_score)
