"""Which columns are text and label."""

import pytest

from nlpft.data.labelled.columns import Roles, roles
from nlpft.data.labelled.options import LabelColumns
from nlpft.errors import DataError

TEXTS = ["a fine film , really", "what a waste of time", "so fine again and again", "no film at all , no"]


def rows(**columns):
    names = list(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def found(table, task="auto", **own):
    return roles(table, LabelColumns(**own), task, "rows.csv")


def test_known_names_are_found_whatever_their_case():
    assert found(rows(Review=TEXTS, Sentiment=list("abab"), id=list("1234"))) == Roles(
        ("Review",), None, ("Sentiment",)
    )


@pytest.mark.parametrize(
    ("first", "second"), [("sentence1", "sentence2"), ("premise", "hypothesis"), ("question", "sentence")]
)
def test_known_pairs_are_two_texts(first, second):
    assert found(rows(**{second: TEXTS, "label": list("abab"), first: TEXTS})) == Roles((first,), second, ("label",))


def test_one_text_of_a_pair_alone_is_a_text():
    assert found(rows(question=TEXTS, label=list("abab"))).text == ("question",)


def test_of_two_names_that_differ_in_case_the_first_counts():
    assert found(rows(Text=TEXTS, text=TEXTS, label=list("abab"))).text == ("Text",)


def test_without_names_the_label_repeats_and_the_texts_run():
    table = rows(**{"0": list("1212"), "1": TEXTS, "2": TEXTS[::-1], "3": ["u1", "u2", "u3", "u4"]})
    assert found(table) == Roles(("1", "2"), None, ("0",))


def test_several_columns_of_bits_are_labels_together():
    table = rows(comment=TEXTS, toxic=list("0101"), rude=list("0011"))
    assert found(table).label == ("toxic", "rude")


def test_lists_of_words_and_tags_make_it_tagging_unless_the_task_says_otherwise():
    table = rows(tokens=[["a", "b"]] * 4, ner_tags=[["O", "O"]] * 4, text=TEXTS, label=list("abab"))
    assert found(table) == Roles(words="tokens", tags="ner_tags")
    assert found(table, task="classify") == Roles(("text",), None, ("label",))


def test_the_users_names_win():
    table = rows(text=TEXTS, title=TEXTS, label=list("abab"), mood=list("abab"))
    assert found(table, text=("title", "text"), label=("mood",)) == Roles(("title", "text"), None, ("mood",))


def test_a_missing_column_is_named_with_the_others_and_the_option():
    with pytest.raises(
        DataError, match=r"rows\.csv: no column of labels; name it by --columns\.label; its columns: text, mood"
    ):
        found(rows(text=TEXTS, mood=list("abcd")))
    with pytest.raises(DataError, match=r"rows\.csv: no column 'lable' \(--columns\.label\); its columns: text, label"):
        found(rows(text=TEXTS, label=list("abab")), label=("lable",))
    with pytest.raises(DataError, match=r"no column of tags; name it by --columns\.tags"):
        found(rows(tokens=[["a"]] * 4), task="tag")
