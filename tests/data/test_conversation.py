"""Rows become conversations: formats, what is learnt, tools as text; nothing but a stated reason stops a row."""

import ast
import random
from collections import Counter
from pathlib import Path

import pytest
import tyro
from tiny import chat

import nlpft
from nlpft.data.conversation import Reading, as_text, conversation
from nlpft.data.repair import Repairs
from nlpft.errors import ConfigError, RowRejected
from nlpft.formats._fields import Columns
from nlpft.formats._remedies import REMEDIES
from nlpft.types import Conversation, Message, Record

CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
REASONS = [
    (None, "not an object"),
    ([1, 2], "not an object"),
    ("x", "not an object"),
    ({"x": 1}, "unknown format"),
    ({"conversations": []}, "empty conversation"),
    (chat("only a question"), "no answer"),
    ({"conversations": [{"from": "gpt", "value": "x"}]}, "no answer"),
    ({"conversations": [{"from": "system", "value": "x"}]}, "no answer"),
    ({"conversations": [{"from": "function_call", "value": '{"name": "f"}'}]}, "no answer"),
    (chat("q", ""), "empty answer"),
    (chat("q", " \n"), "empty answer"),
    ({"instruction": "q", "output": ""}, "empty answer"),
    (
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}]},
        "nothing is learnt",
    ),
]


def read(row: object, suspect: bool = False, **settings) -> Conversation:
    return conversation(Record(row, "rows.json:7"), Reading(**settings), suspect)


def learnt(row: object, **settings) -> list[str]:
    return [m.content for m in read(row, **settings).messages if m.learnt]


@pytest.mark.parametrize(("row", "reason"), REASONS)
def test_what_has_nothing_to_learn_is_rejected_by_reason(row, reason):
    with pytest.raises(RowRejected) as why:
        read(row)
    assert why.value.reason == reason


def test_context_alone_is_no_answer():
    with pytest.raises(RowRejected, match="no answer"):
        read({"conversations": [{"from": "gpt", "value": "x"}]}, repairs=Repairs(leading_answer="context"))


def test_a_conversation_knows_where_it_comes_from():
    found = read(chat("q", "a", id="row 7"))
    assert (found.source, found.id) == ("rows.json:7", "row 7")
    assert read({"text": "t", "id": 3})[1:5] == ((), "3", "rows.json:7", ())


def test_notes_say_all_that_was_done():
    row = {"conversations": [{"from": "gpt", "value": "hi"}, {"from": "user", "value": "q"}]}
    assert read({**row, "chosen": "a"}).notes == ("role alias", "chosen answer used", "leading answer dropped")


def test_role_aliases_can_be_switched_off():
    row = {"conversations": [{"from": "human", "value": "q"}, {"from": "bing", "value": "a"}]}
    with pytest.raises(RowRejected, match="role_alias is off"):
        read(row, repairs=Repairs(role_alias=False))
    assert read(chat("q", "a"), repairs=Repairs(role_alias=False)).notes == ()


FOUR = chat("1", "2", "3", "4")


@pytest.mark.parametrize(
    ("settings", "texts"),
    [
        ({}, ["2", "4"]),
        ({"learn": "last"}, ["4"]),
        ({"learn": "first"}, ["2"]),
        ({"learn_roles": ("user",)}, ["1", "3"]),
        ({"learn_roles": ("user", "assistant")}, ["1", "2", "3", "4"]),
        ({"learn_roles": ("user",), "learn": "last"}, ["3"]),
    ],
)
def test_which_turns_are_learnt(settings, texts):
    assert learnt(FOUR, **settings) == texts


@pytest.mark.parametrize(
    ("mark", "texts"),
    [
        (True, ["2", "4"]),
        ("all", ["2", "4"]),
        ("last", ["4"]),
        ("first", ["2"]),
        ([0, 0, 0, 1], ["4"]),
        ([1, 0, 0, 1], ["1", "4"]),
        ([False, True, False, False], ["2"]),
    ],
)
def test_a_field_of_the_row_says_what_is_learnt(mark, texts):
    assert learnt({**FOUR, "train": mark}, learn="field") == texts
    assert learnt({**FOUR, "mine": mark}, learn="field", columns=Columns(train="mine")) == texts
    assert learnt({**FOUR, "train": mark}) == ["2", "4"]


@pytest.mark.parametrize(
    ("mark", "reason"),
    [
        (False, "nothing is learnt"),
        ([0, 0, 0, 0], "nothing is learnt"),
        ([0, 1], "field does not say what is learnt"),
        (["x", 0, 0, 0], "field does not say what is learnt"),
        ("some", "field does not say what is learnt"),
        (None, "no field says what is learnt"),
    ],
)
def test_a_field_that_says_nothing_rejects_the_row(mark, reason):
    with pytest.raises(RowRejected) as why:
        read({**FOUR, "train": mark}, learn="field")
    assert why.value.reason == reason


def test_fields_of_the_turns_say_what_is_learnt():
    turns = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2", "weight": 0}]
    turns += [{"role": "user", "content": "3"}, {"role": "assistant", "content": "4", "weight": 1}]
    for learn in ("all", "last", "first"):
        assert learnt({"messages": turns}, learn=learn) == ["4"]
    assert learnt({"messages": turns}, learn="field") == ["4"]
    del turns[3]["weight"]
    assert learnt({"messages": turns}) == ["4"]
    for unmarked_is_not in ([0, 1], [1, 1]):
        turns[0]["weight"], turns[1]["weight"] = unmarked_is_not
        assert learnt({"messages": turns}, learn="field") == ["1", "2"][-sum(unmarked_is_not) :]


def test_marks_that_say_what_the_role_says_leave_no_trace():
    assert all(m.train is None for m in read({**FOUR, "train": [0, 1, 0, 1]}, learn="field").messages)
    turns = [{"role": "user", "content": "q", "weight": 0}, {"role": "assistant", "content": "a", "weight": 1}]
    for learn in ("all", "field"):
        assert [m.train for m in read({"messages": turns}, learn=learn).messages] == [None, None]


def test_half_a_surrogate_pair_rejects_a_suspect_row_wherever_it_stands():
    half = "\ud83d"
    rows = [chat("q", half), chat(half, "a"), {"text": half}, {**chat("q", "a"), "tools": [{"name": half}]}]
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {"x": half}}]}
    for row in [*rows, {"messages": [{"role": "user", "content": "q"}, call]}]:
        with pytest.raises(RowRejected, match="not valid Unicode: half a surrogate pair"):
            read(row, suspect=True)
    assert read(chat("q", "🙂"), suspect=True).messages[1].content == "🙂"


def test_a_row_nested_too_deeply_is_rejected():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    for row in (chat("q", deep), {**chat("q", "a"), "tools": deep}):  # type: ignore[arg-type]
        with pytest.raises(RowRejected):
            read(row, suspect=True)


def test_a_format_of_ones_own_is_named_by_a_dotted_name(tmp_path, monkeypatch):
    code = "from nlpft.types import *\ndef parse(record, columns, roles):\n    q, a = record['qa']\n"
    code += "    return Conversation((Message('user', q), Message('assistant', a)))\n"
    (tmp_path / "mine_for_test").mkdir()
    (tmp_path / "mine_for_test" / "pairs.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    assert learnt({"qa": ["q", "a"]}, format="mine_for_test.pairs") == ["a"]


def test_a_format_that_is_not_there_is_the_users_error():
    with pytest.raises(ConfigError, match="did you mean 'sharegpt'"):
        read(FOUR, format="shargpt")


def test_tools_as_text_says_all_that_tools_said():
    messages = (
        *(Message("system", "s"), Message("user", "q"), Message("assistant", "wait", None, (CALL, CALL))),
        *(Message("tool", "3"), Message("tool", "4"), Message("assistant", "a")),
    )
    told = as_text(Conversation(messages, (TOOL,), notes=("role alias",)))
    line = '{"name": "add", "arguments": {"a": 1}}'
    assert [(m.role, m.content, m.tool_calls) for m in told.messages[1:]] == [
        *(("user", "q", ()), ("assistant", f"wait\n{line}\n{line}", ()), ("user", "3\n\n4", ()), ("assistant", "a", ()))
    ]
    assert told.messages[0].content.startswith("s\n\n")
    assert told.messages[0].content.endswith('\n{"name": "add", "parameters": {"type": "object"}}')
    assert (told.tools, told.notes) == ((), ("role alias", "tools as text"))
    assert as_text(Conversation((messages[2]._replace(content=""),))).messages[0].content == f"{line}\n{line}"
    assert as_text(Conversation(messages[1:], (TOOL,))).messages[0].role == "system"


def test_without_tools_nothing_becomes_text():
    plain = read(FOUR)
    assert as_text(plain) is plain
    assert read(FOUR, tools="text") == plain
    assert read({**FOUR, "tools": [TOOL]}, tools="text").notes == ("tools as text",)
    assert read({**FOUR, "tools": [TOOL]}).tools == (TOOL,)


def test_every_reason_has_a_remedy_and_every_remedy_a_reason():
    root = Path(nlpft.__file__).parent
    files = [*(root / "formats").glob("*.py"), root / "data" / "repair.py", root / "data" / "conversation.py"]
    found = set().union(*(reasons(ast.parse(path.read_text(encoding="utf-8"))) for path in files))
    assert found == set(REMEDIES)


def reasons(tree: ast.Module) -> set[str]:
    """The fixed phrases that a file rejects rows by."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    place = {"RowRejected": 0, "_loaded": 1, "_mended": 2}
    args = [call.args[place[call.func.id]] for call in calls if call.func.id in place]  # type: ignore[attr-defined]
    names = {"NO_PLACE": "format cannot hold it", "reason": None}
    found = {arg.value if isinstance(arg, ast.Constant) else names[arg.id] for arg in args}  # type: ignore[attr-defined]
    return found - {None}  # type: ignore[return-value]


def test_settings_are_read_from_the_command_line():
    words = "--columns.messages dialog --roles.assistant tutor bot --repairs.leading-answer context --learn last"
    words += " --repairs.no-crlf --learn-roles user assistant --tools text"
    reading = tyro.cli(Reading, args=words.split())
    assert (reading.columns.messages, reading.roles.assistant) == ("dialog", ("tutor", "bot"))
    assert reading.repairs == Repairs(leading_answer="context", crlf=False)
    assert (reading.learn, reading.learn_roles, reading.tools) == ("last", ("user", "assistant"), "text")


JUNK = [
    None,
    0,
    2.5,
    True,
    "",
    " ",
    "x",
    "user",
    "[",
    [],
    {},
    ["x"],
    [None],
    {"x": 1},
    {"name": "f"},
    [[]],
    10**30,
    "\ud83d",
]
RESULT = {"role": "tool", "content": "3", "tool_call_id": "1"}
OPENAI_CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
VALID = [
    {**chat("q", "a", "r", "b"), "system": "s", "tools": "[]", "id": "1", "train": [0, 1, 0, 1]},
    {**chat("q"), "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}},
    {**chat("q", "a"), "tools": [TOOL], "chosen": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    {
        "conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": '{"name": "f"}'}],
        "tools": [TOOL],
    },
    {
        "messages": [
            *(
                {"role": "system", "content": [{"type": "text", "text": "s"}]},
                {"role": "user", "content": "q", "weight": 0},
            ),
            *(
                {"role": "assistant", "content": None, "tool_calls": [OPENAI_CALL]},
                RESULT,
            ),
            {"role": "assistant", "content": [{"type": "text", "value": "a"}], "loss_weight": 1.0},
        ],
        "tools": [TOOL],
        "label": True,
    },
    {"instruction": "q", "input": "x", "output": "a", "history": [["r", "b"]], "system": "s", "images": []},
    {
        "prompt": [{"role": "user", "content": "q"}],
        "completion": [{"role": "assistant", "content": "a"}],
        "system": "s",
    },
    {"text": "t", "id": 1},
]


def damaged(value: object, rng: random.Random) -> object:
    """The same with junk in place of something in it."""
    if not value or not isinstance(value, (dict, list)) or rng.random() < 0.1:
        return rng.choice(JUNK)
    copy = value.copy()
    key = rng.choice(list(copy) if isinstance(copy, dict) else range(len(copy)))  # type: ignore[arg-type]
    if rng.random() < 0.1:
        del copy[key]
    else:
        copy[key] = damaged(copy[key], rng)
    return copy


def test_no_row_whatever_it_holds_raises_anything_but_a_stated_reason():
    reasons_seen: Counter[str] = Counter()
    for seed in range(8000):
        rng = random.Random(seed)
        row = damaged(damaged(rng.choice(VALID), rng), rng)
        try:
            read(row, suspect=True, learn=rng.choice(["all", "last", "field"]), tools=rng.choice(["auto", "text"]))
        except RowRejected as why:
            reasons_seen[why.reason] += 1
    assert set(reasons_seen) <= set(REMEDIES)
    assert len(reasons_seen) > 20
    assert 4000 < reasons_seen.total() < 8000


def test_rows_that_are_not_damaged_are_read():
    assert [len(read(row).messages) for row in VALID] == [5, 2, 2, 2, 5, 5, 3, 0]
