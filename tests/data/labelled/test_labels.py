"""What labels mean: classes, several classes, numbers."""

import pytest

from nlpft.data.labelled.labels import MULTI, REGRESSION, SINGLE, learn
from nlpft.data.labelled.options import LabelOptions
from nlpft.errors import ConfigError, DataError, RowRejected

AUTO = LabelOptions()


def test_names_are_sorted_and_whole_numbers_by_their_value():
    assert learn(["spam", "ham", "spam"], AUTO, "f").names == ("ham", "spam")
    assert learn(["10", "9", "-1"], AUTO, "f").names == ("-1", "9", "10")


def test_numbers_as_parquet_gives_them_have_the_name_of_the_whole_number():
    labels = learn([1.0, 0.0, 1.0], AUTO, "f")
    assert (labels.problem_type, labels.names, labels.target(0)) == (SINGLE, ("0", "1"), 0)


@pytest.mark.parametrize("rows", [["1.5", "2", "0.25"], [1.5, 2.0, 0.25], ["5.000", "3.0", "4"]])
def test_numbers_with_a_fraction_are_a_regression(rows):
    labels = learn(rows, AUTO, "f")
    assert labels.problem_type == REGRESSION
    assert labels.target(rows[0]) == float(rows[0])


@pytest.mark.parametrize("label", ["n/a", "nan", "inf", None])
def test_a_target_that_is_no_finite_number_is_rejected(label):
    labels = learn([*map(str, range(18)), "0.5", "n/a"], AUTO, "f")  # one in twenty may be a mistake
    assert labels.problem_type == REGRESSION
    with pytest.raises(RowRejected, match="target is no number"):
        labels.target(label)


def test_lists_are_several_labels_as_zeros_and_ones():
    labels = learn([["x"], ["y", "x"], []], AUTO, "f")
    assert (labels.problem_type, labels.names) == (MULTI, ("x", "y"))
    assert [labels.target(row) for row in ([], ["y"], ["x", "y"])] == [[0, 0], [0, 1], [1, 1]]


def test_a_separator_parts_several_labels():
    labels = learn(["a, b", "b", "c"], LabelOptions(label_separator=","), "f")
    assert labels.target("c ,a") == [1, 0, 1]


def test_columns_of_bits_are_labels_and_other_values_are_rejected():
    labels = learn([{"toxic": "1", "rude": 0}, {"toxic": 0, "rude": "0"}], AUTO, "f")
    assert labels.target({"toxic": "1", "rude": 0}) == [0, 1]
    with pytest.raises(RowRejected, match="neither 0 nor 1: rude: '2'"):
        labels.target({"toxic": 0, "rude": "2"})


def test_one_class_is_refused_with_its_name():
    with pytest.raises(DataError, match=r"train\.csv: a classifier needs two labels or more, and there is only 'a'"):
        learn(["a", "a"], AUTO, "train.csv")


def test_an_unseen_label_is_rejected_by_name():
    with pytest.raises(RowRejected, match="label unseen in training: c"):
        learn(["a", "b"], AUTO, "f").target("c")


def test_given_names_set_the_order():
    assert learn(["no", "yes"], LabelOptions(label_names=("yes", "no")), "f").target("no") == 1


@pytest.mark.parametrize(("rows", "ids"), [(["1", "2", "3"], [0, 1, 2]), ([0, 1, 2], [0, 1, 2])])
def test_given_names_stand_for_numbers_from_0_or_1(rows, ids):
    labels = learn(rows, LabelOptions(label_names=("World", "Sports", "Tech")), "f")
    assert ([labels.target(row) for row in rows], labels.names[0]) == (ids, "World")


def test_given_names_that_lack_a_label_are_refused():
    with pytest.raises(ConfigError, match="other labels too: maybe"):
        learn(["no", "yes", "maybe"], LabelOptions(label_names=("yes", "no")), "f")
