"""The Go template of an Ollama Modelfile writes, character for character, what the chat template does."""

import json
import re

import pytest
from templates.families import FAMILIES, chat

from nlpft import plugins
from nlpft.errors import ModelError
from nlpft.serving._go_template import go_template
from nlpft.templates._chat import ChatTemplate
from nlpft.types import Message

TEXTS = ["hi", 'a "b" {{ c }}\n<x>', "two\nlines", "é \\ % 1", "last"]
ACTION = re.compile(r"(\s*)\{\{-(.*?)\}\}|\{\{(.*?)\}\}", re.DOTALL)
WORD = re.compile(r'"(?:[^"\\]|\\.)*"|\S+')


def parse(source):
    """Actions of a template whose text outside of actions is trimmed away, as lists of words."""
    assert ACTION.sub("", source) == ""
    return [WORD.findall(match[2] or match[3]) for match in ACTION.finditer(source)]


def evaluate(source, messages):
    """What Go's text/template makes of `source`: the few actions that nlpft writes."""
    actions, out, variables = parse(source), [], {}

    def value(word, dot):
        if word.startswith('"'):
            return json.loads(word)
        return variables[word] if word.startswith("$") else dot[word[1:]]

    def true(words, dot):
        first, *others = (value(word, dot) for word in words[1:])
        return {"eq": first in others, "ne": first != others[0]}[words[0]]

    def block(at, dot, live):
        """Run actions from `at` to the `else` or `end` of this block; its place."""
        while actions[at][0] not in ("else", "end"):
            words = actions[at]
            if words[0] == "range":
                for message in messages if live else [{}]:
                    end = block(at + 1, message, live)
                at = end
            elif words[0] == "if":
                at = branches(at, words[1:], dot, live)
            elif live and len(words) > 1:
                variables[words[0]] = value(words[2], dot)
            elif live:
                out.append(value(words[0], dot))
            at += 1
            if at == len(actions):
                break
        return at

    def branches(at, condition, dot, live):
        open_ = live
        while True:
            taken = open_ and (not condition or true(condition, dot))
            open_ = open_ and not taken
            at = block(at + 1, dot, taken)
            if actions[at] == ["end"]:
                return at
            condition = actions[at][2:]

    block(0, {}, True)
    return "".join(out)


def check(template, roles):
    messages = [Message(role, text) for role, text in zip(roles, TEXTS, strict=False)]
    expected = template.render(messages, generate=True)
    asked = [{"Role": m.role, "Content": m.content} for m in messages]
    assert evaluate(go_template(template), asked) == expected
    bos = template.tokens.get("bos_token", "")
    assert bos + evaluate(go_template(template, bos), asked) == (
        expected if expected.startswith(bos) else bos + expected
    )


REFUSED = ("mistral_v3",)  # writes the system's message into the last question
CONVERSATIONS = [
    ("user",),
    ("system", "user"),
    ("user", "assistant", "user"),
    ("system", "user", "assistant", "user"),
    ("user", "assistant", "user", "assistant", "user"),
]


@pytest.mark.parametrize("roles", CONVERSATIONS, ids="-".join)
@pytest.mark.parametrize("name", plugins.names("templates"))
def test_every_built_in_template_is_written_exactly(name, roles):
    module = plugins.load("templates", name)
    check(ChatTemplate(module.CHAT_TEMPLATE, module.SPECIAL_TOKENS, "<s>", "</s>"), roles)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_familys_template_is_written_exactly_or_refused(name):
    try:
        written = go_template(chat(name))
    except ModelError:
        assert name in REFUSED
        return
    assert name not in REFUSED
    for roles in CONVERSATIONS:
        if roles[0] != "system" or '"system"' in written:
            check(chat(name), roles)


def test_chatml_in_go_reads_as_expected():
    template = ChatTemplate(plugins.load("templates", "chatml").CHAT_TEMPLATE, [])
    assert go_template(template).splitlines() == [
        '{{- $last := "" }}',
        "{{- range .Messages }}",
        r'{{- if eq .Role "system" }}{{ "<|im_start|>system\n" }}{{ .Content }}',
        r'{{- else if eq .Role "user" }}{{ if eq $last "" }}{{ "<|im_start|>user\n" }}{{ else }}'
        r'{{ "<|im_end|>\n<|im_start|>user\n" }}{{ end }}{{ .Content }}',
        r'{{- else if eq .Role "assistant" }}{{ "<|im_end|>\n<|im_start|>assistant\n" }}{{ .Content }}',
        "{{- end }}",
        "{{- $last = .Role }}",
        "{{- end }}",
        r'{{- if ne $last "assistant" }}{{ "<|im_end|>\n<|im_start|>assistant\n" }}',
        "{{- end }}",
    ]


def test_an_answer_that_was_begun_is_gone_on_with():
    template = ChatTemplate(plugins.load("templates", "chatml").CHAT_TEMPLATE, [])
    begun = [{"Role": "user", "Content": "a"}, {"Role": "assistant", "Content": "b"}]
    assert evaluate(go_template(template), begun).endswith("<|im_start|>assistant\nb")


def test_a_default_system_message_is_written_where_there_is_none():
    source = (
        "{% if messages[0].role != 'system' %}<s>system: be good</s>{% endif %}"
        "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<s>{% endif %}"
    )
    for roles in CONVERSATIONS:
        check(ChatTemplate(source, []), roles)


def test_a_template_that_takes_no_system_message_has_no_branch_for_it():
    source = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ messages[0].content }}"
    single = "{% for m in messages %}{{ m.role }}{{ m.content }}{% endfor %}"
    assert '"system"' not in go_template(ChatTemplate(source.partition("{{ messages")[0] + single, []))
    with pytest.raises(ModelError, match="drops or moves"):
        go_template(ChatTemplate(source, []))


def test_what_depends_on_more_than_the_neighbours_is_refused():
    source = "{% for m in messages %}{{ m.role }}{{ loop.index }}{{ m.content }}{% endfor %}"
    with pytest.raises(ModelError, match="cannot follow it"):
        go_template(ChatTemplate(source, []))
