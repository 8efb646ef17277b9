"""What a format writes it reads back as the same conversation, or says what it has no place for."""

import json
import random

import pytest

from nlpft import plugins
from nlpft.errors import RowRejected
from nlpft.formats._fields import NO_PLACE, Columns, Roles
from nlpft.types import Conversation, Message

CALL = {"type": "function", "function": {"name": "f", "arguments": {"a": [1, "é"]}}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
TEXTS = ["q", " a\r\n", "\ufeffé🙂", "<|im_end|>", '{"name": "f"}', "\x00", "x" * 300]
CHAT = (Message("user", "q"), Message("assistant", "a"))
EVERY = plugins.names("formats")


def meaning(found: Conversation) -> tuple:
    return found.id, found.text, found.tools, [(m.role, m.content, m.tool_calls, m.learnt) for m in found.messages]


def round_trip(name: str, conversation: Conversation) -> Conversation | None:
    """None: the format has no place for it."""
    module = plugins.load("formats", name)
    try:
        row = json.loads(json.dumps(module.write(conversation)))
    except RowRejected as why:
        return None if why.reason == NO_PLACE else pytest.fail(why.reason)
    assert module.matches(row, Columns())
    return module.parse(row, Columns(), Roles())


def random_conversation(rng: random.Random) -> Conversation:
    """A chat that is regular, as repairs leave it."""
    say = lambda: rng.choice(TEXTS)  # noqa: E731
    messages = [Message("system", say())] if rng.random() < 0.3 else []
    tools = (TOOL,) if rng.random() < 0.3 else ()
    for _ in range(rng.randint(1, 4)):
        messages.append(Message("user", say(), rng.choice([None, None, None, True])))
        if tools and rng.random() < 0.5:
            calls = (CALL,) * rng.randint(1, 2)
            messages.append(Message("assistant", rng.choice(["", "wait"]), None, calls))
            messages += [Message("tool", rng.choice(["", *TEXTS])) for _ in calls]
        messages.append(Message("assistant", say(), rng.choice([None, None, None, False])))
    return Conversation(tuple(messages), tools, rng.choice(["", "row 1"]))


@pytest.mark.parametrize("name", ["sharegpt", "messages"])
def test_chat_formats_hold_every_conversation(name):
    for seed in range(400):
        conversation = random_conversation(random.Random(seed))
        back = round_trip(name, conversation)
        assert back is not None
        assert meaning(back) == meaning(conversation)


@pytest.mark.parametrize("name", ["alpaca", "prompt_completion"])
def test_narrow_formats_lose_nothing_in_silence(name):
    held = 0
    for seed in range(400):
        conversation = random_conversation(random.Random(seed))
        back = round_trip(name, conversation)
        held += back is not None
        assert back is None or meaning(back) == meaning(conversation)
    assert 0 < held < 400


@pytest.mark.parametrize(
    ("name", "messages"),
    [
        ("alpaca", CHAT),
        ("alpaca", (Message("system", "s"), *CHAT, *CHAT)),
        ("prompt_completion", CHAT),
        ("prompt_completion", (Message("system", "s"), *CHAT)),
        ("prompt_completion", (CHAT[0], Message("assistant", "a", False), *CHAT)),
        ("prompt_completion", (CHAT[0], Message("assistant", "", None, (CALL,)))),
    ],
)
def test_narrow_formats_hold_what_they_are_made_for(name, messages):
    back = round_trip(name, Conversation(messages))
    assert back is not None
    assert meaning(back) == meaning(Conversation(messages))


@pytest.mark.parametrize("name", ["alpaca", "prompt_completion"])
def test_an_answer_alone_has_no_place_beside_a_question(name):
    assert round_trip(name, Conversation(CHAT[1:])) is None


@pytest.mark.parametrize("name", EVERY)
def test_raw_text_is_held_by_the_format_text_alone(name):
    back = round_trip(name, Conversation((), text=" t\n"))
    assert (back is not None and back.text == " t\n") if name == "text" else back is None


@pytest.mark.parametrize("name", EVERY)
def test_a_conversation_of_nothing_is_not_written_as_something(name):
    back = round_trip(name, Conversation(()))
    assert back is None or meaning(back) == meaning(Conversation(()))


def test_all_scripts_stay_readable():
    row = plugins.load("formats", "sharegpt").write(Conversation(CHAT, ({**TOOL, "function": {"name": "é"}},)))
    assert "é" in row["tools"]


def test_a_call_without_text_is_one_turn_of_sharegpt():
    row = plugins.load("formats", "sharegpt").write(Conversation((CHAT[0], Message("assistant", "", None, (CALL,)))))
    assert [turn["from"] for turn in row["conversations"]] == ["human", "function_call"]
