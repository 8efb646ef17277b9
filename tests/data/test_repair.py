"""Repairs: what is meant is kept, answers byte for byte, every repair is noted and can be switched off."""

import dataclasses
import random

import pytest

from nlpft.data.repair import Repairs, is_regular, merged, repair
from nlpft.errors import RowRejected
from nlpft.types import Message

CALL = {"type": "function", "function": {"name": "f", "arguments": {}}}
CALLS = Message("assistant", "", None, (CALL,))
ROLES = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}


def chat(*turns: str) -> tuple[Message, ...]:
    """'u question' -> a user's turn; 'C' is an assistant's that only calls a tool."""
    return tuple(CALLS if turn == "C" else Message(ROLES[turn[0]], turn[2:]) for turn in turns)


REGULAR = [
    chat("u q", "a x"),
    chat("s be", "u q", "a x", "u r", "a \ufeffy\r\n"),
    chat("u q", "C", "t 3", "a x"),
    chat("u q", "C", "t ", "t 3", "C", "t 4", "a x"),
    chat("u ", "a you said nothing"),  # the answer would be lost with its question
    chat("u q", "C"),
]
CASES = [  # rows, repaired rows, notes, the switch, the reason with the switch off
    (("a hi", "u q", "a x"), ("u q", "a x"), "leading answer dropped", "leading_answer", "begins with an answer"),
    (
        ("a hi", "a ho", "u q", "a x"),
        ("u q", "a x"),
        "leading answer dropped",
        "leading_answer",
        "begins with an answer",
    ),
    (
        ("s be", "a hi", "u q", "a x"),
        ("s be", "u q", "a x"),
        "leading answer dropped",
        "leading_answer",
        "begins with an answer",
    ),
    (("C", "t 3", "u q", "a x"), ("u q", "a x"), "leading answer dropped", "leading_answer", "begins with an answer"),
    (("u q", "a x", "u r"), ("u q", "a x"), "trailing user turn trimmed", "trailing_turn", "ends without an answer"),
    (
        ("u q", "a x", "u r", "u s"),
        ("u q", "a x"),
        "trailing user turn trimmed",
        "trailing_turn",
        "ends without an answer",
    ),
    (("u q", "C", "t 3"), ("u q", "C"), "trailing tool turn trimmed", "trailing_turn", "ends without an answer"),
    (("u q", "u r", "a x"), ("u q\n\nr", "a x"), "turns of one role merged", "merge_turns", "two turns of one role"),
    (
        ("u q", "a x ", "a  y", "a z"),
        ("u q", "a x \n\n y\n\nz"),
        "turns of one role merged",
        "merge_turns",
        "two turns of one role",
    ),
    (
        ("u q", "s be", "a x"),
        ("s be", "u q", "a x"),
        "system turn hoisted",
        "hoist_system",
        "system turn in the middle",
    ),
    (
        ("s be", "s do", "u q", "a x"),
        ("s be\n\ndo", "u q", "a x"),
        "system turns joined",
        "join_systems",
        "several system turns",
    ),
    (
        ("u q", "a x", "a ", "u r", "a y"),
        ("u q", "a x", "u r", "a y"),
        "blank turn dropped",
        "blank_turn",
        "blank turn",
    ),
    (("s \n", "u q", "a x"), ("u q", "a x"), "blank turn dropped", "blank_turn", "blank turn"),
    (("u ", "u q", "a x"), ("u q", "a x"), "blank turn dropped", "blank_turn", "blank turn"),
    (("u \ufeffq", "a \ufeffx"), ("u q", "a \ufeffx"), "byte order mark removed", "bom", "byte order mark"),
    (("s \ufeffbe", "u q", "a x"), ("s be", "u q", "a x"), "byte order mark removed", "bom", "byte order mark"),
    (("u q\r\nr\rs", "a x\r\n"), ("u q\nr\rs", "a x\r\n"), "CRLF made LF", "crlf", "CRLF line ends"),
    (("s be\r\n", "u q", "a x"), ("s be\n", "u q", "a x"), "CRLF made LF", "crlf", "CRLF line ends"),
]


@pytest.mark.parametrize("messages", REGULAR)
def test_what_is_regular_stays_as_it_is(messages):
    assert repair(messages, Repairs()) == (messages, ())


@pytest.mark.parametrize(("before", "after", "note", "switch", "reason"), CASES)
def test_each_repair_does_one_thing_and_says_so(before, after, note, switch, reason):
    assert not is_regular(chat(*before))
    assert repair(chat(*before), Repairs()) == (chat(*after), (note,))


@pytest.mark.parametrize(("before", "after", "note", "switch", "reason"), CASES)
def test_with_its_switch_off_a_row_is_rejected_and_told_which(before, after, note, switch, reason):
    off = {"leading_answer": "off"} if switch == "leading_answer" else {switch: False}
    with pytest.raises(RowRejected) as why:
        repair(chat(*before), Repairs(**off))
    assert why.value.reason == reason
    assert switch in why.value.detail


@pytest.mark.parametrize(("before", "after", "note", "switch", "reason"), CASES)
def test_no_other_switch_is_needed(before, after, note, switch, reason):
    off = {field.name: False for field in dataclasses.fields(Repairs)} | {"leading_answer": "off"}
    assert repair(chat(*before), Repairs(**{**off, switch: getattr(Repairs(), switch)}))[1] == (note,)


def test_a_leading_answer_can_stay_as_context():
    messages, notes = repair(chat("s be", "a hi", "u q", "a x"), Repairs(leading_answer="context"))
    assert [(m.content, m.learnt) for m in messages] == [("be", False), ("hi", False), ("q", False), ("x", True)]
    assert notes == ("leading answer kept as context",)


@pytest.mark.parametrize("between", ["s be", "t 3", "s  ", "u \n"])
def test_an_answer_to_a_blank_first_question_is_not_lost(between):
    messages, _ = repair(chat("a hi", "u ", between, "a x"), Repairs())
    assert [m.content for m in messages if m.learnt] == ["x"]


def test_systems_in_the_middle_join_the_first():
    messages, notes = repair(chat("s be", "u q", "s do", "u r", "a x"), Repairs())
    assert messages == chat("s be\n\ndo", "u q\n\nr", "a x")
    assert notes == ("system turn hoisted", "system turns joined", "turns of one role merged")


def test_a_blank_answer_in_the_middle_leaves_one_question():
    assert repair(chat("u q", "a ", "u r", "a x"), Repairs())[0] == chat("u q\n\nr", "a x")


def test_results_of_tools_are_never_merged():
    messages = chat("u q", "C", "t 3", "t 4", "a x")
    assert tuple(merged(messages)) == messages


def test_text_does_not_move_before_a_call():
    called_then_said = chat("u q", "C", "a x")
    assert repair(called_then_said, Repairs()) == (called_then_said, ())
    assert repair(chat("u q", "a x", "C"), Repairs())[0] == (*chat("u q"), Message("assistant", "x", None, (CALL,)))


def test_a_learnt_and_an_unlearnt_answer_stay_apart():
    messages = (*chat("u q"), Message("assistant", "x", False), Message("assistant", "y"))
    assert repair(messages, Repairs()) == (messages, ())


def test_a_trailing_user_turn_that_is_learnt_stays():
    messages = (*chat("u q", "a x"), Message("user", "r", True))
    assert repair(messages, Repairs()) == (messages, ())


def random_rows(seed: int) -> tuple[Message, ...]:
    rng = random.Random(seed)
    texts = ["", " ", "\n", "\ufeff", "\ufeff ", "x\r\ny", "<|im_end|>", "\x00"]
    roles = rng.choices("suuaaatC", k=rng.randint(0, 9))
    contents = [rng.choice(texts) + rng.choice(["", f"text {i}", f"text {i}"]) for i in range(len(roles))]
    return chat(*(role if role == "C" else f"{role} {text}" for role, text in zip(roles, contents, strict=True)))


def answers(messages: tuple[Message, ...]) -> list[Message]:
    """What the assistant says or calls after the first turn of the user, blank texts aside."""
    first = next((i for i, m in enumerate(messages) if m.role == "user"), len(messages))
    return [m for m in messages[first:] if m.role == "assistant" and (m.content.strip() or m.tool_calls)]


def test_every_answer_to_a_user_survives_byte_for_byte_and_in_order():
    """The property that the whole conversion stands on."""
    lost = asked = 0
    for seed in range(4000):
        before = random_rows(seed)
        after = repair(before, Repairs())[0]
        asked += bool(answers(before))
        place, texts = 0, [m.content for m in after if m.role == "assistant"]
        for answer in answers(before):
            if not answer.content.strip():
                continue
            while place < len(texts) and answer.content not in texts[place]:
                place += 1
            lost += place == len(texts)
        assert sum(len(m.tool_calls) for m in after) >= sum(len(m.tool_calls) for m in answers(before)) - lost
    assert lost == 0
    assert asked > 1500


def test_a_repaired_conversation_needs_no_repair():
    for seed in range(4000):
        once = repair(random_rows(seed), Repairs())[0]
        assert repair(once, Repairs()) == (once, ())


def test_the_quick_check_passes_nothing_that_a_repair_would_change():
    quick = 0
    for seed in range(4000):
        messages = random_rows(seed) if seed % 2 else chat(*random.Random(seed).choices(["u q", "a x"], k=2))
        if is_regular(messages):
            quick += 1
            padded = (*messages, *chat("u q", "t ", "a x"))  # the same turns, by the long way
            assert repair(padded, Repairs())[0][: len(messages)] == messages
    assert quick > 100


def test_a_hundred_thousand_turns_take_no_longer_than_their_number():
    blank = [Message("user", ""), Message("assistant", "")] * 25_000
    leading = [Message("assistant", "x")] * 25_000
    messages, _ = repair([*leading, *blank, *chat("u q", "a x") * 12_500], Repairs())
    assert messages == chat("u q", "a x") * 12_500
