"""Metrics give the numbers of the libraries whose names they bear, on random data, and load without a network."""

import math
import random

import evaluate
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer
from scipy import stats
from sklearn import metrics as sklearn_metrics

from nlpft import plugins

WORDS = [
    "a",
    "man",
    "is",
    "on",
    "the",
    "roof,",
    "pulling",
    "up",
    "ripped",
    "shingles",
    "and",
    "laughing",
    "Loudly",
    "12",
    "times.",
]


def compute(name, predictions, references, **options):
    return plugins.load("metrics", name).Metric().compute(predictions=predictions, references=references, **options)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", str(tmp_path))


def labels(seed, classes=4, size=200):
    rng = random.Random(seed)
    return [rng.randrange(classes) for _ in range(size)]


def numbers(seed, size=50):
    rng = random.Random(seed)
    return [rng.random() for _ in range(size)]


def probabilities(seed, classes=3, size=50):
    rng = random.Random(seed)
    return [[rng.random() for _ in range(classes)] for _ in range(size)]


def one_hot(seed, classes=3, size=50):
    return [[float(label == i) for i in range(classes)] for label in labels(seed, classes, size)]


def texts(seed, size=40):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 14))) for _ in range(size)]


def tags(seed, marks="BIO", size=60):
    rng = random.Random(seed)
    names = ["O", *(f"{mark}-{kind}" for mark in marks if mark != "O" for kind in ("PER", "LOC", "ORG"))]
    return [rng.choices(names, k=1 + (n % 9)) for n in range(size)]


def test_accuracy_and_f1_are_scikit_learns():
    said, true = labels(1), labels(2)
    assert compute("accuracy", said, true) == {"accuracy": sklearn_metrics.accuracy_score(true, said)}
    for average in ("macro", "micro", "weighted"):
        expected = sklearn_metrics.f1_score(true, said, average=average)
        assert compute("f1", said, true, average=average) == {"f1": pytest.approx(expected)}


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
def test_precision_and_recall_are_scikit_learns(average):
    said, true = labels(1), labels(2)
    for name in ("precision", "recall"):
        expected = getattr(sklearn_metrics, f"{name}_score")(true, said, average=average)
        assert compute(name, said, true, average=average) == {name: pytest.approx(expected)}


def test_matthews_correlation_is_scikit_learns():
    said, true = labels(1), labels(2)
    said[:100] = true[:100]
    expected = sklearn_metrics.matthews_corrcoef(true, said)
    assert compute("matthews_correlation", said, true) == {"matthews_correlation": pytest.approx(expected)}


def test_numbers_are_scored_as_scikit_learn_and_scipy_do():
    said, true = numbers(1), numbers(2)
    assert compute("mse", said, true) == {"mse": pytest.approx(sklearn_metrics.mean_squared_error(true, said))}
    assert compute("pearsonr", said, true) == {"pearsonr": pytest.approx(stats.pearsonr(true, said).statistic)}
    assert math.isnan(compute("pearsonr", [1.0, 1.0], [1.0, 2.0])["pearsonr"])


def test_roc_auc_is_scikit_learns_over_labels_that_tell():
    said, true = probabilities(1), one_hot(2)
    expected = sklearn_metrics.roc_auc_score(true, said)
    assert compute("roc_auc", said, true) == {"roc_auc": pytest.approx(expected)}
    with_empty = [[*row, 0.0] for row in true]
    assert compute("roc_auc", [[*row, 0.5] for row in said], with_empty) == {"roc_auc": pytest.approx(expected)}


def test_exact_match_counts_equal_texts():
    assert compute("exact_match", ["a ", "b", "c"], ["a", "b", "C"]) == {"exact_match": pytest.approx(2 / 3)}


@pytest.mark.parametrize(("name", "function"), [("sacrebleu", sacrebleu.corpus_bleu), ("chrf", sacrebleu.corpus_chrf)])
def test_corpus_scores_are_sacrebleus(name, function):
    said, true = texts(1), texts(2)
    assert compute(name, said, true)["score"] == pytest.approx(function(said, [true]).score)
    assert 0 < compute(name, said, true)["score"] < compute(name, true, true)["score"]


def test_rouge_is_rouge_scores():
    said, true = texts(3), texts(4)
    scorer = RougeScorer(["rouge1", "rougeL"], use_stemmer=False)
    found = compute("rouge", said, true)
    for name in ("rouge1", "rougeL"):
        expected = sum(scorer.score(t, s)[name].fmeasure for s, t in zip(said, true, strict=True)) / len(true)
        assert found[name] == pytest.approx(expected)


@pytest.mark.parametrize("marks", ["BIO", "BIOES"])
@pytest.mark.parametrize("seed", range(5))
def test_span_scores_are_seqevals(marks, seed):
    seqeval = pytest.importorskip("seqeval.metrics", reason="seqeval is a dev dependency")
    said, true = tags(seed, marks), tags(seed + 100, marks)
    said[::3] = true[::3]
    found = compute("seqeval", said, true)
    assert found["overall_f1"] == pytest.approx(seqeval.f1_score(true, said))
    assert found["overall_precision"] == pytest.approx(seqeval.precision_score(true, said))
    assert found["overall_recall"] == pytest.approx(seqeval.recall_score(true, said))
    assert found["overall_accuracy"] == pytest.approx(seqeval.accuracy_score(true, said))
    report = seqeval.classification_report(true, said, output_dict=True)
    assert found["PER"] == pytest.approx(
        {"precision": report["PER"]["precision"], "recall": report["PER"]["recall"], "f1": report["PER"]["f1-score"],
         "number": report["PER"]["support"]}
    )  # fmt: skip


def test_spans_by_hand():
    spans = plugins.load("metrics", "seqeval").spans
    assert spans([["B-a", "I-a", "O", "I-b", "I-c"], ["B-a", "B-a"]]) == [
        (0, "a", 0, 1), (0, "b", 3, 3), (0, "c", 4, 4), (1, "a", 0, 0), (1, "a", 1, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("name", plugins.names("metrics"))
def test_evaluate_loads_the_same_file_without_a_network(name):
    module = plugins.load("metrics", name)
    sample = {
        "text": (texts(1), texts(2)),
        "label": (labels(1), labels(2)),
        "tags": (tags(1), tags(2)),
        "number": (numbers(1), numbers(2)),
        "probabilities": (probabilities(1), one_hot(2)),
    }[module.KIND]
    loaded = evaluate.load(module.__file__)
    assert loaded.compute(predictions=sample[0], references=sample[1]) == compute(name, *sample)
    assert set(module.VALUES) <= compute(name, *sample).keys()
