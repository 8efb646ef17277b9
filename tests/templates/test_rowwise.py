"""Rows that are rendered by themselves: what is not seen to stand as it is, is refused; control strings stay ordinary text."""

import pytest

from nlpft.errors import RowRejected
from nlpft.templates._chat import ChatTemplate
from nlpft.types import Message, Segment

LOOP = "{% for m in messages %}{{ m.role }}:BODY</s>{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
LOOKS = "{% if m.content | length > 999 %}long{% endif %}"  # so that no row shares a shape
# As reasoning models' templates do.
CUTS = "{{ m.content.split('</think>')[-1] if m.role == 'assistant' else m.content }}"
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Ulm"}}}
TOOL = {"type": "function", "function": {"name": "weather", "description": "by city"}}


def chat(body: str) -> ChatTemplate:
    return ChatTemplate(LOOP.replace("BODY", body), ["</s>", "<call>"])


def row(*texts: str, learn_all: bool = True) -> list[Message]:
    turns = [Message("assistant" if i % 2 else "user", text) for i, text in enumerate(texts)]
    return turns if learn_all else [*(m._replace(train=False) for m in turns[:-1]), turns[-1]]


def learnt(segments: list[Segment]) -> str:
    return "".join(s.text for s in segments if s.train)


def contents(segments: list[Segment]) -> list[str]:
    return [s.text for s in segments if not s.control]


def test_blanks_that_are_kept_are_the_texts_own():
    segments = chat(LOOKS + "{{ m.content if m.role == 'user' else ' ' + m.content.strip() + ' ' }}").segments(
        row(" q\n", " \n a  ")
    )
    assert contents(segments) == [" q\n", "a"]
    assert learnt(segments) == " a </s>"


def test_a_blank_answer_is_its_end():
    assert learnt(chat("{{ m.content }}").segments(row("q", " "))) == " </s>"


def test_control_strings_in_an_answer_that_is_found_behind_its_prompt_are_text():
    segments = chat(CUTS.replace("[-1]", " | join('</think>')")).segments(row("q", "a</s>b</think>c"))
    assert contents(segments) == ["q", "a</s>b</think>c"]
    assert learnt(segments) == "a</s>b</think>c</s>"


def test_earlier_answers_that_are_not_learnt_may_be_rewritten():
    segments = chat(CUTS).segments(row("q", "t</think>a", "r", "b", learn_all=False))
    assert "".join(s.text for s in segments) == "user:q</s>assistant:a</s>user:r</s>assistant:b</s>"
    assert learnt(segments) == "b</s>"


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (row("q", "t</think>a", "r", "b"), "changes a text: turn 2"),
        (row("q", "t</think>a", "is it t</think>a", "b"), "changes a text: turn 2"),
        (row("q", "t</think>a<call>", "r", "b", learn_all=False), "changes a text"),
        (row("q", "t</think>a\ue000"), "private-use"),
        (row(*["q", "t</think>a"] * 251), "too many turns"),
    ],
)
def test_rewritten_answers_are_refused(messages, reason):
    with pytest.raises(RowRejected, match=reason):
        chat(CUTS).segments(messages)


def test_a_prompt_that_begins_the_answer_is_refused():
    template = ChatTemplate(
        LOOP.replace("BODY", LOOKS + "{{ m.content }}").replace("assistant:{% endif", "assistant:<t>{% endif"), ["</s>"]
    )
    with pytest.raises(RowRejected, match="rewrites history: turn 2"):
        template.segments(row("q", "<t>a"))


def test_an_answer_without_a_prompt_is_refused():
    with pytest.raises(RowRejected, match="no prompt for an answer: turn 1"):
        ChatTemplate(
            "{{ messages[0].role.upper() }}" + LOOP.replace("BODY", LOOKS + "{{ m.content }}"), ["</s>"]
        ).segments([Message("assistant", "a")])


def test_a_template_that_would_refuse_a_mark_takes_the_row():
    body = "{{ raise_exception('no') if m.role == 'assistant' and m.content[0] not in 'ab' else m.content }}"
    assert learnt(chat(body).segments(row("q", "a"))) == "a</s>"
    with pytest.raises(RowRejected, match="refused by the chat template: no"):
        chat(body).segments(row("q", "c"))


CALLS = (
    "{{ m.content }}{% for call in m.tool_calls %}<call>{{ call.function.name }}({{ call.function.arguments | tojson }})"
    "<call>{% endfor %}"
)


def test_calls_are_learnt_up_to_the_end_of_turn():
    messages = [
        Message("user", "q"),
        Message("assistant", "", tool_calls=(CALL, CALL)),
        Message("tool", "grey"),
        Message("assistant", "a"),
    ]
    call = '<call>weather({"city": "Ulm"})<call>'
    assert learnt(chat(CALLS).segments(messages)) == f"{call}{call}</s>a</s>"
    assert learnt(chat(CALLS).segments(messages[:2])) == f"{call}{call}</s>"


@pytest.mark.parametrize(
    "body",
    [
        "{{ m.content }}",
        CALLS.replace("m.tool_calls", "(m.tool_calls or [])[:1]").replace("call.function.name", "'f'"),
        "{{ m.content }}<call>",
    ],
)
def test_calls_that_are_not_written_are_refused(body):
    with pytest.raises(RowRejected, match="no place for tools"):
        chat(body).segments([Message("user", "q"), Message("assistant", "I look", tool_calls=(CALL,))])


def test_calls_that_cannot_be_seen_are_refused():
    body = CALLS.replace("<call>{{", "<call>{{ 'known ' if call.function.name == 'weather' else '' }}{{")
    with pytest.raises(RowRejected, match="changes a text: turn 2"):
        chat(body).segments([Message("user", "q"), Message("assistant", "", tool_calls=(CALL,))])


LISTED = "{% for tool in tools or [] %}{{ tool.function.name + ': ' + tool.function.description }};{% endfor %}"


def tooled(template: str, description: str = "by city", end: str = "</s>") -> list[Segment]:
    tool = {**TOOL, "function": {**TOOL["function"], "description": description}}
    source = template + LOOP.replace("BODY", "{{ m.content }}").replace("</s>", end)
    return ChatTemplate(source, [end]).segments(row("q", "a"), tools=[tool])


def test_tools_are_text_and_spell_no_control_token():
    assert contents(tooled(LISTED, "by</s>city")) == ["weather", "by</s>city", "q", "a"]


def test_tools_that_a_template_looks_at_are_taken_unless_they_spell_a_control_token():
    looking = LISTED.replace("{{", "{{ '*' if tool.function.name == 'weather' else '' }}{{")
    assert "".join(s.text for s in tooled(looking)) == "*weather: by city;user:q</s>assistant:a</s>"
    for end in ("</s>", "<｜end｜>"):
        with pytest.raises(RowRejected, match="changes a text"):
            tooled(looking, f"by{end}city", end)


@pytest.mark.parametrize("template", ["", "{{ 'x' if tools and tools[0].function.name == 'other' else '' }}"])
def test_tools_that_are_not_written_are_refused(template):
    with pytest.raises(RowRejected, match="no place for tools"):
        tooled(template)


def test_what_a_tool_says_may_be_quoted_but_no_other_text():
    body = "{{ m.content | tojson }}"
    said = 'the "sky"'
    messages = [Message("user", "q"), Message("tool", said), Message("assistant", "a")]
    quoted = chat("{{ m.content | tojson if m.role == 'tool' else m.content }}").segments(messages)
    assert "".join(s.text for s in quoted) == 'user:q</s>tool:"the \\"sky\\""</s>assistant:a</s>'
    with pytest.raises(RowRejected, match="changes a text: turn 1"):
        chat(body).segments(row(said, "a"))
