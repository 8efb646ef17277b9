"""What an item asked and what was answered, as lm-eval logs it in its several ways."""

import pytest

from nlpft.evaluation import answers

CHOICES = [["Q?", " a long answer"], ["Q?", " no"]]


def item(scores, requests=CHOICES, **more):
    return {"task": "t", "doc_id": 3, "doc": {}, "arguments": requests, "resps": [[s] for s in scores], **more}


def test_the_most_likely_answer_is_chosen_and_per_letter_where_the_metric_says_so():
    row = item([[-6.0, False], [-3.0, True]])
    assert answers.chosen(row, "acc") == "no"
    assert answers.chosen(row, "acc_norm") == "a long answer"  # -6 over 13 letters, -3 over 2


def test_scores_and_requests_as_the_hub_has_them_are_read():
    requests = {f"gen_args_{i}": {"arg_0": context, "arg_1": given} for i, (context, given) in enumerate(CHOICES)}
    row = item([["-1.0", "True"], ["-3.0", "False"]], requests)
    assert answers.chosen(row, "acc") == "a long answer"
    assert answers.prompt(row) == [("prompt", "Q?")]


def test_answers_that_stand_in_the_contexts_are_those():
    row = item([[-1.0, True], [-3.0, False]], [["He saw Ann", " leave."], ["He saw Ben", " leave."]], target=1)
    assert answers.chosen(row, "acc") == "He saw Ann"
    assert answers.expected(row) == "He saw Ben"


@pytest.mark.parametrize(("target", "text"), [(1, "no"), ("0", "a long answer"), ("7", "7"), ("yes", "yes")])
def test_number_of_the_expected_answer_is_given_as_its_text(target, text):
    assert answers.expected(item([[-1.0, True], [-2.0, False]], target=target)) == text


def test_one_request_is_no_choice_and_an_own_text_is_the_answer():
    assert answers.chosen(item([[-1.0, True]], CHOICES[:1]), "acc") is None
    assert answers.answer(item(["42"], [["Q?", {"until": ["\n"]}]]), "exact_match") == "42"


def test_an_item_is_named_by_its_file_or_by_task_and_number():
    assert answers.source(item([])) == "t item 3"
    assert answers.source(item([], doc={"source": "rows.json:7"})) == "rows.json:7"
    assert answers.source(item([], doc="text")) == "t item 3"


def test_long_texts_are_clipped_at_the_end_that_matters_less():
    text = "a" * answers.LONGEST + "b" * 500
    assert answers.clip(text) == "a" * answers.LONGEST + " [500 more characters]"
    assert answers.clip(text, end=True).startswith("[500 more characters] " + "a" * 700)


def test_a_score_is_the_items_own():
    pair = ({"loss_sum": 6.0, "tokens": 4, "acc": 1.0}, {"loss_sum": 2.0, "tokens": 4, "acc": 0.0})
    assert answers.marks(pair, "loss", False) == ["loss 1.500", "loss 0.500"]
    assert answers.marks(pair, "acc", True) == ["right", "wrong"]
    assert answers.marks(pair, "chrf", False) == ["", ""]
