"""The keys and roles that real corpora use are understood, each by one format; a mapping settles what keys cannot tell."""

import pytest

from nlpft import plugins
from nlpft.data.conversation import Reading, conversation
from nlpft.errors import RowRejected
from nlpft.formats._fields import Columns, Roles
from nlpft.formats._turns import ALIASES, KNOWN
from nlpft.types import Message, Record

Q, A = Message("user", "q"), Message("assistant", "a")
SYSTEM = Message("system", "s")
SHAREGPT = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
OPENAI = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
WORSE = [OPENAI[0], {"role": "assistant", "content": "worse"}]
CHATS = [  # format, row; each says q and a
    ("sharegpt", {"conversations": SHAREGPT}),
    ("sharegpt", {"conversations": SHAREGPT, "tools": ""}),
    ("sharegpt", {"messages": SHAREGPT}),
    ("sharegpt", {"conversations": SHAREGPT, "instruction": "q", "response": "a"}),
    ("sharegpt", {"conversations": SHAREGPT[:1], "chosen": SHAREGPT[1], "rejected": {"from": "gpt", "value": "worse"}}),
    ("sharegpt", {"conversations": [{"from": "user", "text": "q"}, {"from": "assistant", "text": "a"}]}),
    ("messages", {"messages": OPENAI}),
    ("messages", {"conversations": OPENAI, "images": []}),
    ("messages", {"conversation": OPENAI, "model": "m", "language": "English"}),
    ("messages", {"messages": OPENAI, "label": True}),
    ("messages", {"completion": OPENAI, "label": True}),
    ("messages", {"chosen": OPENAI, "rejected": WORSE}),
    ("messages", {"prompt": "q", "prompt_id": "1", "messages": OPENAI}),
    ("messages", {"prompt": "q", "messages": OPENAI, "chosen": OPENAI, "rejected": WORSE}),
    ("messages", {"messages": OPENAI, "conversations": None, "system": None, "tools": None}),
    ("alpaca", {"instruction": "q", "input": "", "output": "a"}),
    ("alpaca", {"instruction": "q", "output": "a", "text": "### Instruction:\nq\n### Response:\na"}),
    ("alpaca", {"instruction": "q", "response": "a"}),
    ("alpaca", {"instruction": "q", "context": "", "response": "a", "category": "qa"}),
    ("alpaca", {"instruction": "q", "chosen": "a", "rejected": "worse"}),
    ("prompt_completion", {"prompt": "q", "completion": "a"}),
    ("prompt_completion", {"prompt": "q", "completion": "a", "label": True}),
    ("prompt_completion", {"prompt": "q", "response": "a"}),
    ("prompt_completion", {"prompt": "q", "text": "a"}),
    ("prompt_completion", {"prompt": "q", "chosen": "a", "rejected": "worse"}),
    ("prompt_completion", {"prompt": "q", "chosen": OPENAI, "rejected": WORSE}),
    ("prompt_completion", {"prompt": OPENAI[:1], "completion": OPENAI[1:]}),
    ("prompt_completion", {"prompt": OPENAI[:1], "chosen": OPENAI[1:], "rejected": WORSE[1:]}),
    ("prompt_completion", {"question": "q", "answer": "a"}),
    ("prompt_completion", {"question": "q", "response": "a"}),
    ("prompt_completion", {"question": "q", "chosen": "a", "rejected": "worse"}),
    ("prompt_completion", {"question": "q", "chosen": OPENAI[1:], "rejected": WORSE[1:]}),
    ("prompt_completion", {"query": "q", "response": "a"}),
    ("prompt_completion", {"input": "q", "target": "a"}),
    ("prompt_completion", {"input": "q", "output": "a"}),
    ("prompt_completion", {"content": "q", "summary": "a"}),
]
TEXTS = [
    {"text": "t"},
    {"content": "t"},
    {"raw_content": "t"},
    {"completion": "t"},
    {"text": "t", "title": "x", "url": "y"},
]
NEITHER = [
    {"instruction": "q"},
    {"prompt": "q"},
    {"question": "q", "text": "t"},
    {"summary": "a"},
    {"turns": ["q"]},
    {"text": 3},
    {},
]


def matching(row: dict, columns: Columns = KNOWN) -> list[str]:
    return [n for n in plugins.names("formats") if plugins.load("formats", n).matches(row, columns)]


def said(row: object, **settings) -> tuple[Message, ...]:
    """Turns of the row without their marks of what is learnt."""
    found = conversation(Record(row, "rows.json:1"), Reading(**settings))
    return tuple(message._replace(train=None) for message in found.messages)


@pytest.mark.parametrize(("name", "row"), CHATS)
def test_each_row_of_a_chat_belongs_to_one_format_and_says_what_it_says(name, row):
    assert matching(row) == [name]
    assert said(row) == (Q, A)


@pytest.mark.parametrize("row", TEXTS)
def test_a_text_alone_is_raw_text(row):
    assert matching(row) == ["text"]
    assert conversation(Record(row, "x:1")).text == "t"


@pytest.mark.parametrize("row", NEITHER)
def test_a_row_that_no_format_knows_is_not_guessed_at(row):
    assert matching(row) == []
    with pytest.raises(RowRejected, match="unknown format"):
        said(row)


@pytest.mark.parametrize("key", ["system", "system_prompt", "system_message"])
@pytest.mark.parametrize(
    "row",
    [
        {"conversations": SHAREGPT},
        {"messages": OPENAI},
        {"instruction": "q", "output": "a"},
        {"question": "q", "response": "a"},
    ],
)
def test_every_chat_may_have_a_system_prompt_of_its_own(row, key):
    assert said({**row, key: "s"}) == (SYSTEM, Q, A)
    assert said({**row, key: ""}) == said({**row, key: None}) == (Q, A)


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        (Columns(messages="dialog_turns"), {"dialog_turns": SHAREGPT}),
        (
            Columns(messages="d", role="who", content="what"),
            {"d": [{"who": "human", "what": "q"}, {"who": "gpt", "what": "a"}]},
        ),
        (Columns(prompt="goal", response="sol"), {"goal": "q", "sol": "a"}),
        (Columns(prompt="text", response="summary"), {"text": "q", "summary": "a"}),
        (Columns(prompt="goal", chosen="better"), {"goal": "q", "better": "a", "worse": "b"}),
        (Columns(response="gold"), {"instruction": "q", "gold": "a"}),
        (Columns(messages="none"), {"messages": OPENAI, "question": "q", "answer": "a"}),
        (Columns(chosen="none"), {"messages": OPENAI, "chosen": OPENAI[1]}),
    ],
)
def test_a_mapping_names_what_the_known_names_do_not(columns, row):
    assert len(matching(row, columns)) == 1
    assert said(row, columns=columns) == (Q, A)


def test_raw_text_may_be_mapped_beside_a_question():
    row = {"question": "q", "body": "t"}
    assert conversation(Record(row, "x:1"), Reading(columns=Columns(text="body"))).text == "t"


@pytest.mark.parametrize("word", [*ALIASES, "User", " GPT "])
def test_known_names_of_roles_are_read_and_other_than_the_formats_own_are_noted(word):
    role = ALIASES[word.strip().lower()]
    turns = [*SHAREGPT, {"from": word, "value": '{"name": "f"}'}, *SHAREGPT]
    found = conversation(Record({"conversations": turns}, "x:1"))
    assert {m.role for m in found.messages} == {"user", "assistant", "assistant" if role == "function_call" else role}
    own = word in ("system", "human", "gpt", "function_call", "observation")
    assert ("role alias" in found.notes) != own


def test_names_of_roles_can_be_added_and_changed():
    turns = [{"from": "tutor", "value": "s"}, {"from": "gpt", "value": "q"}, {"from": "Bot", "value": "a"}]
    roles = Roles(system=("tutor",), user=("gpt",), assistant=("Bot",))
    found = conversation(Record({"conversations": turns}, "x:1"), Reading(roles=roles))
    assert found.messages == (SYSTEM, Q, A)
    assert found.notes == ("role mapping",)


def test_an_unknown_role_is_rejected_by_its_name():
    with pytest.raises(RowRejected, match="unknown role: 'martian'; known: system, human, gpt"):
        said({"conversations": [*SHAREGPT, {"from": "martian", "value": "x"}]})


@pytest.mark.parametrize("key", ["images", "image", "video", "videos", "audio", "audios"])
def test_rows_with_images_audio_or_video_are_rejected(key):
    for row in ({"conversations": SHAREGPT}, {"instruction": "q", "output": "a"}, {"question": "q", "answer": "a"}):
        assert said({**row, key: []}) == (Q, A)
        with pytest.raises(RowRejected, match="images, audio or video"):
            said({**row, key: ["x.png"]})


def test_undesired_answers_are_not_imitated():
    for row in ({"messages": OPENAI}, {"prompt": "q", "completion": "a"}, {"instruction": "q", "output": "a"}):
        with pytest.raises(RowRejected, match="undesired answer"):
            said({**row, "label": False})
        assert said({**row, "label": 0}) == (Q, A)  # a class, for all we know
        with pytest.raises(RowRejected, match="undesired answer"):
            said({**row, "kto": 0}, columns=Columns(label="kto"))
