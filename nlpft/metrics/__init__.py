"""Metrics of answers, with the names and numbers of `evaluate`'s, but from this folder: by name, `evaluate.load` downloads.

A metric is one file NAME.py with `KIND`, what it compares ("text": answers as they stand; "label": class numbers; "tags":
lists of BIO tags; and, of models with heads, "number" and "probabilities": a list for each row, one for each label, with
references of 0 and 1), `VALUES`, the names of its numbers worth a line in a table, and `Metric`, a class of `evaluate.Metric`,
whose `compute(predictions=, references=)` returns a dict; and, where the metric is a mean over rows, `rows`: what each adds to
it, by name. A metric of the whole corpus may have, besides, `counts`, of the same arguments: what each row adds, [rows, n], and
`score`: its VALUES, by name, from sums of such rows, [..., n]; with them it is compared with an interval.
`evaluate.load("nlpft/metrics/NAME.py")` takes the same file.
"""
