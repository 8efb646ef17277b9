"""Share of what is said to be a label that is it, over labels, by scikit-learn; `average` as there."""

from sklearn.metrics import precision_score

from nlpft.metrics import _by_label

KIND = "label"
VALUES = ("precision",)
counts, score = _by_label.counts, _by_label.scorer("precision")


class Metric(_by_label.ByLabel):
    VALUE, ABOUT = "precision", __doc__
    of = staticmethod(precision_score)
