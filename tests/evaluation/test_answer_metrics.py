"""Answers are read as labels or tags where a metric compares those; what cannot be read is counted and wrong."""

import pytest

from nlpft.errors import ConfigError
from nlpft.evaluation import answer_metrics


def compute(names, written, references):
    return answer_metrics.compute(answer_metrics.check(names, references), written, references)


def test_labels_are_the_references_and_other_answers_are_wrong():
    found = compute(["accuracy", "f1"], ["yes", " no\n", "maybe", "no"], ["yes", "no", "no", "yes"])
    assert found.values["accuracy"] == 0.5
    assert found.values["f1"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found.per_row == {"accuracy": [1.0, 1.0, 0.0, 0.0]}
    assert found.unparsed == {"accuracy": 1, "f1": 1}


def test_tags_of_another_length_count_as_none():
    found = compute(["seqeval"], ["B-a I-a O", "B-a", "a b"], ["B-a I-a O", "B-a O", "O B-b"])
    assert found.values == {"seqeval_precision": 1.0, "seqeval_recall": pytest.approx(1 / 3), "seqeval_f1": 0.5}
    assert found.unparsed == {"seqeval": 2}


def test_values_bear_the_names_of_their_metrics():
    found = compute(["rouge", "chrf", "sacrebleu", "exact_match"], ["a b c d e"] * 2, ["a b c d e"] * 2)
    assert found.values == {
        "rouge1": 1.0, "rouge2": 1.0, "rougeL": 1.0, "rougeLsum": 1.0, "exact_match": 1.0,
        "chrf": pytest.approx(100), "sacrebleu": pytest.approx(100),
    }  # fmt: skip
    assert found.per_row["rougeL"] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "references", "said"),
    [("f1", [f"text {n}" for n in range(9)], "9 different texts"), ("seqeval", ["O B-a", "a man"], "'a man'")],
)
def test_a_metric_that_cannot_compare_such_answers_is_refused(name, references, said):
    with pytest.raises(ConfigError, match=said):
        answer_metrics.check([name], references)
