"""Real families of templates: every row is transformers' own rendering with a right mask, or refused for the right reason."""

import random

import pytest
from families import CONVERSATIONS, FAMILIES, FOLDER, SYSTEM, chat, source, tools_of, turns
from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from nlpft.errors import ModelError, RowRejected
from nlpft.types import Message, Segment

REASONS = {
    "R": "refused by the chat template",
    "H": "template rewrites history",
    "D": "template drops or repeats a turn",
    "C": "template changes a text",
    "N": "template has no prompt for an answer",
    "P": "template has no place for tools",
    "E": "the chat template ends an answer with ''",
}
# By family, in the order of CONVERSATIONS: '+' kept, with a shared shape; '-' kept, rendered by itself; else why it is refused.
MATRIX = {
    "alpaca": "++++++++++++++++--PPP",
    "command_r": "++++++++R+++++++--RRP",
    "deepseek_r1": "++++++++++-C--C+--PPP",
    "deepseek_r1_thinking": "HHHHHHHHHHHHHHCHHHPPP",
    "deepseek_v2": "++++++++++++++++--PPP",
    "deepseek_v3": "++++++++++++++++--P-P",
    "falcon": "++++++++++++++++--RRP",
    "gemma": "+RR+++++R+++++++-RRRP",
    "gemma3": "++++++++R+++++++--RRP",
    "generation_marks": "++++++++++++++++--PPP",
    "glm4": "EEEEEEEEEEEEEEE+EEPPP",
    "glm45": "EEEEEEEEEEEEEEE+EEPPP",
    "granite3": "++++++++++++++++--PP-",
    "hermes": "++++++++++++++++--HD-",
    "internlm2": "++++++++++++++++--PPP",
    "llama2": "++++++++R+++++++--RRP",
    "llama3": "++++++++++++++++--PPP",
    "llama31": "++++++++++++++++---D-",
    "mistral_v1": "+RR+++++R+++++++-RRRP",
    "mistral_v3": "+DD+++++R+++++++-H-D-",
    "mixtral": "++++++++R+++++++--RRP",
    "olmo2": "++++++++H+++++++--PPP",
    "openchat": "++++++++++++++++--PPP",
    "phi3": "++++++++++++++++--PPP",
    "phi4": "++++++++++++++++--PPP",
    "qwen2": "++++++++++++++++--PPP",
    "qwen25": "++++++++++++++++-----",
    "qwen3": "+++-++++H+-C--C+--PPP",
    "smollm2": "++++++++++++++++--PPP",
    "smollm3": "+++-++++++++++++--PPP",
    "stablelm": "++++++++++++++++--PPP",
    "vicuna": "++++++++++++++++--PPP",
    "yi": "++++++++++++++++--PPP",
    "zephyr": "++++++++++++++++--PPP",
}
REFUSALS = (TemplateError, TypeError)


def reference(
    family: str, messages: tuple[Message, ...] | list[Message], generate: bool = False, tools: tuple = ()
) -> str:
    """What transformers renders (`apply_chat_template` calls this, but for empty conversations)."""
    own = FAMILIES[family]
    named = {name: token for name, token in [("bos_token", own.bos), ("eos_token", own.eos)] if token}
    rendered, _ = render_jinja_template(
        [[m.as_dict() for m in messages]],
        tools=list(tools) or None,
        chat_template=source(family),
        add_generation_prompt=generate,
        **named,
    )
    return rendered[0]


def outcome(family: str, messages: tuple[Message, ...], tools: tuple) -> str:
    """As in MATRIX."""
    template = chat(family)
    try:
        shape = None if tools else template.shape(messages)
        template.segments(messages, tools=tools)
    except (RowRejected, ModelError) as why:
        return next(letter for letter, reason in REASONS.items() if str(why).startswith(reason))
    return "-" if shape is None else "+"


def learnt_runs(segments: list[Segment]) -> list[list[Segment]]:
    """Neighbouring segments that are learnt."""
    runs: list[list[Segment]] = []
    before = False
    for segment in segments:
        if segment.train:
            runs = runs if before else [*runs, []]
            runs[-1].append(segment)
        before = segment.train
    return runs


def prove(family: str, messages: tuple[Message, ...] | list[Message], tools: tuple = ()) -> None:
    """Raise AssertionError unless the segments are the rendering and learn each answer with its end, from its prompt on."""
    template = chat(family)
    segments = template.segments(messages, tools=tools)
    whole = reference(family, messages, tools=tools)
    assert "".join(s.text for s in segments) == whole
    answers = [i for i, m in enumerate(messages) if m.learnt]
    runs = learnt_runs(segments)
    assert len(runs) == len(answers)
    for i, run in zip(answers, runs, strict=True):
        learnt = "".join(s.text for s in run)
        prompt = reference(family, messages[:i], generate=True, tools=tools)
        assert whole.startswith(prompt + learnt)
        ends = template.special.findall("".join(s.text for s in run if s.control))
        assert learnt.endswith(ends[-1])
        assert len(ends) == 1 or messages[i].tool_calls
        if messages[i].tool_calls:
            alone = reference(family, messages[: i + 1], tools=tools)
            assert alone.startswith(prompt + learnt)
            assert not template.special.search(alone, len(prompt + learnt))
        else:
            written = learnt.removesuffix(ends[-1])
            assert written.rstrip().endswith(messages[i].content.strip())
            content = "".join(s.text for s in run if not s.control)
            assert content.strip() == messages[i].content.strip()
            assert content in messages[i].content


def test_every_template_file_is_a_family():
    assert {path.stem for path in FOLDER.glob("*.jinja")} == set(FAMILIES) == set(MATRIX)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_becomes_of_each_conversation(family):
    found = "".join(outcome(family, messages, tools_of(name)) for name, messages in CONVERSATIONS.items())
    assert found == MATRIX[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_kept_rows_are_the_reference_and_learn_each_answer_with_its_end(family):
    for (name, messages), found in zip(CONVERSATIONS.items(), MATRIX[family], strict=True):
        if found in "+-":
            prove(family, messages, tools_of(name))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_reference_refuses_what_the_template_is_said_to_refuse(family):
    for (name, messages), found in zip(CONVERSATIONS.items(), MATRIX[family], strict=True):
        if found == "R":
            with pytest.raises(REFUSALS):
                reference(family, messages, tools=tools_of(name))
        else:
            reference(family, messages, tools=tools_of(name))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_is_the_reference(family):
    for name, messages in CONVERSATIONS.items():
        if outcome(family, messages[:1], tools_of(name)) in "+-" and name != "blank_system":
            prompt = chat(family).segments(messages[:1], generate=True, tools=tools_of(name))
            assert "".join(s.text for s in prompt) == reference(family, messages[:1], True, tools_of(name))
            assert not any(s.train for s in prompt)


WORDS = (
    "a", "B c", " ", "\n", "\n\n", "\t", "é", "你好", "🙂", "\u00a0", "0", "{}", "{{ x }}", "%s", "\\n", '"', "'", "<", "&amp;",
    "[", "]", "/no_think", "/system_override", "<tool_response>", "</tool_response>", "<|im_end|>", "</s>", "[/INST]", "[INST]",
    "<think>", "</think>", "<|eot_id|>", "<end_of_turn>", "<|user|>", "USER:", "ASSISTANT:", "### Response:\n", "\x0b", "\x0c",
    "\u2028",
)  # fmt: skip


def random_text(rng: random.Random) -> str:
    """Sometimes with blanks at its ends, never blank."""
    return "".join(rng.choices(WORDS, k=rng.randint(0, 5))) + "x" + "".join(rng.choices(WORDS, k=rng.randint(0, 4)))


def random_row(rng: random.Random) -> list[Message]:
    """Mostly user and assistant in turn, sometimes with a system turn, repeated roles or answers that are not learnt."""
    row = [SYSTEM._replace(content=random_text(rng))] if rng.random() < 0.3 else []
    row += turns(*(random_text(rng) for _ in range(rng.choice((1, 2, 2, 2, 4, 4, 5, 6)))))
    if rng.random() < 0.1:
        row.insert(rng.randrange(len(row)), Message(rng.choice(("user", "assistant", "system")), random_text(rng)))
    learn_last = rng.random() < 0.3
    return [m._replace(train=False) if learn_last and m.role == "assistant" and m is not row[-1] else m for m in row]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shape_found_with_one_row_is_right_for_all_others(family):
    rng = random.Random(family)
    shared = 0
    for _ in range(150):
        messages = random_row(rng)
        found = outcome(family, tuple(messages), ())
        if found == "+":
            shared += 1
        if found in "+-":
            prove(family, messages)
        elif found == "R":
            with pytest.raises(REFUSALS):
                reference(family, messages)
    assert shared > 40 or MATRIX[family][0] != "+"
