"""Turns in lists: contents in parts, calls of tools, weights, chosen answers; what cannot be read is rejected by reason."""

import pytest

from nlpft import plugins
from nlpft.errors import RowRejected
from nlpft.formats._fields import Columns, Roles
from nlpft.formats._turns import KNOWN
from nlpft.types import Conversation, Message

CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
BARE = {"name": "add", "description": "sums", "parameters": {"type": "object"}}


def parse(row: dict, name: str = "messages", columns: Columns = KNOWN) -> Conversation:
    return plugins.load("formats", name).parse(row, columns, Roles())


def user(content: object = "q", **more) -> dict:
    return {"role": "user", "content": content, **more}


def answer(content: object = "a", **more) -> dict:
    return {"role": "assistant", "content": content, **more}


def human(text: object = "q") -> dict:
    return {"from": "human", "value": text}


def test_content_in_parts_is_their_texts_without_anything_between():
    parts = [{"type": "text", "text": "a "}, {"type": "text", "value": "b"}, {"text": "c", "type": None}, "d"]
    assert parse({"messages": [user(parts), answer()]}).messages[0] == Message("user", "a bcd")


def test_a_call_may_be_a_part_of_the_content():
    parts = [{"type": "text", "text": "wait"}, {"type": "tool_call", "value": '{"name": "add", "arguments": {"a": 1}}'}]
    assert parse({"messages": [user(), answer(parts)]}).messages[1] == Message("assistant", "wait", None, (CALL,))


@pytest.mark.parametrize(
    "call",
    [
        {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
        {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}},
        {"name": "add", "arguments": {"a": 1}},
        {"name": "add", "parameters": {"a": 1}},
    ],
)
def test_calls_are_read_however_they_are_written(call):
    expected = Message("assistant", "", None, (CALL,))
    assert parse({"messages": [user(), answer(None, tool_calls=[call])]}).messages[1] == expected
    assert parse({"messages": [user(), {"role": "assistant", "tool_calls": [call]}]}).messages[1] == expected


def test_arguments_that_are_no_object_stay_text():
    for text in ("not json", "[1]", "3"):
        call = {"name": "add", "arguments": text}
        (read,) = parse({"messages": [user(), answer("", tool_calls=[call])]}).messages[1].tool_calls
        assert read["function"]["arguments"] == text


def test_sharegpt_calls_belong_to_the_text_before_them():
    one = {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'}
    row = {
        "conversations": [human(), {"from": "gpt", "value": "wait"}, one, one, {"from": "observation", "value": "3"}]
    }
    assert parse(row, "sharegpt").messages == (
        Message("user", "q"),
        Message("assistant", "wait", None, (CALL, CALL)),
        Message("tool", "3"),
    )


def test_a_call_that_is_learnt_stays_apart_from_a_text_that_is_not():
    call = {"from": "function_call", "value": '{"name": "add"}', "weight": 1}
    row = {"conversations": [human(), {"from": "gpt", "value": "wait", "weight": 0}, call]}
    assert [(m.content, m.learnt) for m in parse(row, "sharegpt").messages] == [
        ("q", False),
        ("wait", False),
        ("", True),
    ]


@pytest.mark.parametrize(
    "tools", [[BARE], '[{"name": "add", "description": "sums", "parameters": {"type": "object"}}]']
)
def test_tools_are_a_list_or_its_json_and_end_as_openai_writes_them(tools):
    row = {"conversations": [human(), {"from": "gpt", "value": "a"}], "tools": tools}
    assert parse(row, "sharegpt").tools == ({"type": "function", "function": BARE},)


def test_results_are_put_in_the_order_of_their_calls():
    calls = [{"id": x, "function": {"name": "add", "arguments": "{}"}} for x in "xy"]
    results = [{"role": "tool", "content": x, "tool_call_id": x} for x in "yx"]
    found = parse({"messages": [user(), answer("", tool_calls=calls), *results, answer()]})
    assert [m.content for m in found.messages] == ["q", "", "x", "y", "a"]
    assert found.notes == ("results put in the order of their calls",)
    same = parse({"messages": [user(), answer("", tool_calls=calls), *results[::-1], answer()]})
    assert (same.messages, same.notes) == (found.messages, ())


@pytest.mark.parametrize("key", ["weight", "loss_weight", "train"])
def test_a_turn_says_itself_whether_it_is_learnt(key):
    row = {"messages": [user(**{key: 1}), answer(**{key: 0}), user(**{key: 0.0}), answer(**{key: True})]}
    assert [m.learnt for m in parse(row).messages] == [True, False, False, True]


CHOSEN = {"from": "gpt", "value": "better"}


@pytest.mark.parametrize("chosen", [CHOSEN, [CHOSEN], "better", [human(), CHOSEN]])
def test_the_chosen_answer_is_used_and_noted(chosen):
    row = {"conversations": [human()], "chosen": chosen, "rejected": {"from": "gpt", "value": "worse"}}
    found = parse(row, "sharegpt")
    assert found.messages == (Message("user", "q"), Message("assistant", "better"))
    assert found.notes == ("chosen answer used",)


def test_the_prompts_answers_are_context():
    row = {"prompt": [user("1"), answer("2"), user("3")], "completion": [answer("4")]}
    assert [m.learnt for m in parse(row, "prompt_completion").messages] == [False, False, False, True]


def test_alpaca_reads_input_system_and_history():
    row = {"instruction": "i", "input": "x", "output": "o", "system": "s", "history": [["1", "2"]], "id": 7}
    found = parse(row, "alpaca")
    assert [(m.role, m.content) for m in found.messages] == [
        *(("system", "s"), ("user", "1"), ("assistant", "2"), ("user", "i\n\nx"), ("assistant", "o"))
    ]
    assert found.id == "7"


def test_nothing_is_stripped():
    text = " \n\ufeffa\r\n\t"
    assert parse({"instruction": text, "output": text}, "alpaca").messages[1].content == text
    assert [m.content for m in parse({"messages": [user(text), answer(text)]}).messages] == [text, text]
    assert parse({"text": text}, "text").text == text


TURN = "turn without role and content"
REJECTED = [
    ("sharegpt", {"conversations": None}, "no list of turns"),
    ("sharegpt", {"conversations": "x"}, "no list of turns"),
    ("sharegpt", {"conversations": {"from": "human", "value": "x"}}, "no list of turns"),
    ("sharegpt", {"conversations": ["x"]}, TURN),
    ("sharegpt", {"conversations": [None]}, TURN),
    ("sharegpt", {"conversations": [{}]}, TURN),
    ("sharegpt", {"conversations": [{"from": "human"}]}, TURN),
    ("sharegpt", {"conversations": [{"value": "x"}]}, TURN),
    ("sharegpt", {"conversations": [human(None)]}, "not text"),
    ("sharegpt", {"conversations": [human(17)]}, "not text"),
    ("sharegpt", {"conversations": [human({"a": 1})]}, "not text"),
    ("sharegpt", {"conversations": [{"from": None, "value": "x"}]}, "not text"),
    ("sharegpt", {"conversations": [{"from": ["human"], "value": "x"}]}, "not text"),
    ("sharegpt", {"conversations": [human()], "system": 3}, "not text"),
    ("sharegpt", {"conversations": [human()], "tools": "no json"}, "tools not understood"),
    ("sharegpt", {"conversations": [human()], "tools": ["f"]}, "tools not understood"),
    ("sharegpt", {"conversations": [{"from": "function_call", "value": "f(x)"}]}, "tool call not understood"),
    ("sharegpt", {"conversations": [{"from": "function_call", "value": ""}]}, "tool call not understood"),
    ("sharegpt", {"conversations": [{"from": "function_call", "value": '{"f": 1}'}]}, "tool call not understood"),
    ("sharegpt", {"conversations": [human(), CHOSEN], "chosen": CHOSEN}, "two answers to one question"),
    ("messages", {"messages": [user([{"type": "image_url", "image_url": {}}])]}, "images, audio or video"),
    ("messages", {"messages": [user([{"type": "input_audio"}])]}, "images, audio or video"),
    ("messages", {"messages": [user([{"type": "thinking", "thinking": "x"}])]}, "unknown content part"),
    ("messages", {"messages": [user([{"type": "text", "text": None}])]}, "not text"),
    ("messages", {"messages": [answer("a", reasoning_content="hm")]}, "reasoning in a field of its own"),
    ("messages", {"messages": [answer("a", weight=0.5)]}, "loss weight is neither 0 nor 1"),
    ("messages", {"messages": [answer("a", weight="1")]}, "loss weight is neither 0 nor 1"),
    ("messages", {"messages": [answer(None)]}, "not text"),
    ("messages", {"messages": [{"role": "tool", "content": "3", "tool_call_id": "x"}]}, "result of no call"),
    ("alpaca", {"instruction": "x"}, "no instruction and output"),
    ("alpaca", {"instruction": "x", "output": ["y"]}, "not text"),
    ("alpaca", {"instruction": "x", "output": "y", "input": 3}, "not text"),
    ("alpaca", {"instruction": "x", "output": "y", "history": [["1"]]}, "history is no list of pairs"),
    ("alpaca", {"instruction": "x", "output": "y", "history": "1"}, "history is no list of pairs"),
    ("prompt_completion", {"prompt": "x"}, "no prompt and completion"),
    ("prompt_completion", {"prompt": "x", "completion": 3}, "not text"),
    ("text", {"x": "y"}, "no text"),
    ("text", {"text": 3}, "not text"),
    ("text", {"text": " \n"}, "blank text"),
]


@pytest.mark.parametrize(("name", "row", "reason"), REJECTED)
def test_what_cannot_be_read_is_rejected_by_reason(name, row, reason):
    with pytest.raises(RowRejected) as why:
        parse(row, name)
    assert why.value.reason == reason
