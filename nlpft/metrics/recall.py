"""Share of what is a label that is said to be it, over labels, by scikit-learn; `average` as there."""

from sklearn.metrics import recall_score

from nlpft.metrics import _by_label

KIND = "label"
VALUES = ("recall",)
counts, score = _by_label.counts, _by_label.scorer("recall")


class Metric(_by_label.ByLabel):
    VALUE, ABOUT = "recall", __doc__
    of = staticmethod(recall_score)
