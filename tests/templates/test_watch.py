"""Templates that look at a text are found out, whatever they look with; those that only write or strip it are not."""

import pytest

from nlpft.errors import RowRejected
from nlpft.templates._chat import ChatTemplate
from nlpft.types import Message

LOOP = "{% for m in messages %}{{ m.role }}:BODY</s>{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
PLAIN = ("A question\nof two lines", "An answer, indeed")

# By the construct that looks: a template's body, and a text that it treats otherwise than PLAIN.
LOOKS = {
    "equality": ("{{ 'E' if m.content == 'x' else m.content }}", "x"),
    "inequality": ("{{ m.content if m.content != 'x' else 'E' }}", "x"),
    "order": ("{{ 'E' if m.content < 'B' else m.content }}", "C"),
    "chain": ("{{ 'E' if 'a' <= m.content <= 'z' else m.content }}", "k"),
    "chain from the text": ("{{ 'E' if m.content <= 'An' <= 'z' else m.content }}", "A"),
    "two texts": ("{{ 'E' if m.content == messages[0].content and not loop.first else m.content }}", PLAIN[0]),
    "two turns": ("{{ 'E' if m == messages[0] and not loop.first else m.content }}", None),
    "word in text": ("{{ 'E' if '</think>' in m.content else m.content }}", "a</think>b"),
    "word not in text": ("{{ m.content if '</think>' not in m.content else 'E' }}", "a</think>b"),
    "text in word": ("{{ 'E' if m.content in 'xyz' else m.content }}", "y"),
    "text among keys": ("{{ 'E' if m.content in {'x': 1} else m.content }}", "x"),
    "text in list": ("{{ 'E' if m.content in ['x', 'y'] else m.content }}", "y"),
    "word in texts": ("{{ 'E' if 'x' in messages | map(attribute='content') else m.content }}", "x"),
    "word in values": ("{{ 'E' if 'x' in m.values() else m.content }}", "x"),
    "test": ("{{ 'E' if m.content is eq('x') else m.content }}", "x"),
    "test of case": ("{{ 'E' if m.content is lower else m.content }}", "low"),
    "test of a name": ("{{ 'E' if m.content is filter else m.content }}", "upper"),
    "select by test": ("{{ (messages | selectattr('content', 'equalto', 'x') | list | length) ~ m.content }}", "x"),
    "length": ("{{ 'E' if m.content | length < 3 else m.content }}", "ab"),
    "length of its parts": ("{{ 'E' if m.content.split(' ') | length > 9 else m.content }}", "a b c d e f g h i j k"),
    "upper": ("{{ m.content | upper }}", "x"),
    "truncate": ("{{ m.content | truncate(30) }}", "x y " * 30),
    "replace": ("{{ m.content | replace('<', '(') }}", "a < b"),
    "trim of others": ("{{ m.content | trim('*') }}", "**x**"),
    "trim of others by name": ("{{ m.content | trim(chars='*') }}", "**x**"),
    "mapped filter": ("{{ (messages | map(attribute='content') | map('upper') | list)[loop.index0] }}", "x"),
    "sort": ("{{ (messages | map(attribute='content') | sort)[0] ~ m.content }}", "0"),
    "unique": ("{{ (messages | map(attribute='content') | unique | list | length) ~ m.content }}", PLAIN[0]),
    "groupby": ("{{ (messages | groupby('content') | length) ~ m.content }}", PLAIN[0]),
    "tojson": ("{{ m.content | tojson }}", 'a "word"'),
    "escape": ("{{ m.content | e }}", "a < b"),
    "safe text": ("{{ '' | safe + m.content }}", "a < b"),
    "autoescape": ("{% autoescape true %}{{ m.content }}{% endautoescape %}", "a < b"),
    "startswith": ("{{ 'E' if m.content.startswith('x') else m.content }}", "xy"),
    "startswith, stripped": ("{{ 'E' if m.content.strip().startswith('x') else m.content }}", "  xy"),
    "startswith a blank": ("{{ 'E' if m.content.startswith(' ') else m.content }}", " y"),
    "startswith another text": (
        "{{ 'E' if not loop.first and m.content.startswith(messages[0].content) else m.content }}",
        f"{PLAIN[0]}, again",
    ),
    "endswith": ("{{ 'E' if (m.content | trim).endswith('x') else m.content }}", "yx \n"),
    "endswith of several": ("{{ 'E' if m.content.endswith(('x', 'y')) else m.content }}", "zy"),
    "split": ("{{ m.content.split('</think>')[-1] }}", "a</think>b"),
    "split at blanks": ("{{ m.content.split()[0] }}", "two words"),
    "replacing method": ("{{ m.content.replace('x', 'y') }}", "x"),
    "lstrip of others": ("{{ m.content.lstrip('\\n') }}", "\nx"),
    "rstrip of others": ("{{ m.content.rstrip('.') }}", "x."),
    "strip of others": ("{{ m.content.strip('\"') }}", '"x"'),
    "find": ("{{ 'E' if m.content.find('x') >= 0 else m.content }}", "yx"),
    "count": ("{{ 'E' if m.content.count('x') else m.content }}", "yx"),
    "title": ("{{ m.content.title() }}", "two words"),
    "method by name": ("{{ (m.content | attr('upper'))() }}", "x"),
    "format of the text": ("{{ m.content.format(a=1) }}", "{a}"),
    "format into": ("{{ '{:.30}'.format(m.content) }}", "x" * 40),
    "percent of the text": ("{{ m.content if loop.first else m.content % {} }}", "50%% off"),
    "percent into": ("{{ '%.30s' % m.content }}", "x" * 40),
    "format filter": ("{{ '%.30s' | format(m.content) }}", "x" * 40),
    "index": ("{{ 'E' if m.content[0] == 'x' else m.content }}", "xy"),
    "slice": ("{{ m.content[:30] }}", "x" * 40),
    "slice from the end": ("{{ 'E' if m.content[-1:] == 'x' else m.content }}", "yx"),
    "characters": ("{% for c in m.content %}{{ c if c != 'x' else 'E' }}{% endfor %}", "axb"),
    "unpacking": (
        "{{ m.content if loop.first }}{% if loop.last %}{% set a, b, c = m.content %}{{ a ~ b ~ c }}{% endif %}",
        "xyz",
    ),
    "unpacking in a loop": (
        "{{ m.content if loop.first }}{% if loop.last %}{% for a, b, c in [m.content] %}{{ a ~ b ~ c }}{% endfor %}{% endif %}",
        "xyz",
    ),
    "first": ("{{ 'E' if (m.content | first) == 'x' else m.content }}", "xy"),
    "list": ("{{ 'E' if (m.content | list)[0] == 'x' else m.content }}", "xy"),
    "set variable": ("{% set c = m.content %}{{ 'E' if 'x' in c else c }}", "yx"),
    "namespace": ("{% set ns = namespace(c=m.content) %}{{ 'E' if 'x' in ns.c else ns.c }}", "yx"),
    "dict": ("{% set d = dict(c=m.content) %}{{ 'E' if 'x' in d.c else d.c }}", "yx"),
    "macro": ("{% macro f(c) %}{{ 'E' if 'x' in c else c }}{% endmacro %}{{ f(m.content) }}", "yx"),
    "text of a macro": ("{% macro f(c) %}{{ c }}{% endmacro %}{{ 'E' if 'x' in f(m.content) else m.content }}", "yx"),
    "call block": (
        "{% macro f() %}{{ 'E' if 'x' in caller() else caller() }}{% endmacro %}{% call f() %}{{ m.content }}{% endcall %}",
        "yx",
    ),
    "filter block": ("{% filter upper %}{{ m.content }}{% endfilter %}", "x"),
    "block set": ("{% set c %}{{ m.content }}{% endset %}{{ 'E' if 'x' in c else c }}", "yx"),
    "block set with filter": ("{% set c | upper %}{{ m.content }}{% endset %}{{ c }}", "x"),
    "concatenation": ("{{ 'E' if ('<' ~ m.content) == '<x' else m.content }}", "x"),
    "sum": ("{{ 'E' if 'nx' in ('an' + m.content) else m.content }}", "x"),
    "repetition": ("{{ 'E' if 'xx' in m.content * 2 else m.content }}", "x"),
    "joined texts": ("{{ 'E' if ',x' in (messages | map(attribute='content') | join(',')) else m.content }}", "x"),
    "place in a list": ("{{ messages.index(m) ~ m.content }}", None),
    "change in a loop": ("{{ 'same' if not loop.changed(m.content) else m.content }}", PLAIN[0]),
    "function": ("{{ strftime_now(m.content) }}", "50%%"),
    "in a condition": ("{% if 'x' in m.content %}E{% else %}{{ m.content }}{% endif %}", "yx"),
    "in a loop's filter": ("{% for n in [m] if 'x' not in n.content %}{{ n.content }}{% endfor %}", "yx"),
    "refusal": ("{{ raise_exception('no') if 'x' in m.content else m.content }}", "yx"),
    "refusal of others": ("{{ m.content if loop.first or 'x' in m.content else raise_exception('no') }}", "yx"),
}

WRITES = {
    "alone": "{{ m.content }}",
    "sum": "{{ '<' + m.content + '>' }}",
    "concatenation": "{{ '<' ~ m['content'] ~ '>' }}",
    "trim": "{{ m.content | trim }}",
    "strip": "{{ m.content.strip() }}",
    "lstrip of both": "{{ ('\n' + m.content).lstrip() }}",
    "rstrip": "{{ (m.content + ' ').rstrip() + '\n' }}",
    "truth": "{% if m.content and not m.tool_calls %}{{ m.content }}{% endif %}",
    "not nothing": "{% if m.content is not none and m.content != none and m.content != '' %}{{ m.content }}{% endif %}",
    "not false": "{% set c = m.content %}{% if c != false %}{{ c }}{% endif %}",
    "types": "{% if m.content is string and m.content is not mapping %}{{ m.content }}{% endif %}",
    "default": "{{ m.content | default('none', true) }}",
    "string": "{{ m.content | string }}",
    "get": "{{ m.get('content', '') }}",
    "key": "{% if 'content' in m %}{{ m.content }}{% endif %}",
    "items": "{% for key, value in m.items() %}{{ value if key == 'content' else '' }}{% endfor %}",
    "join": "{{ ''.join(['<', m.content]) }}",
    "join filter": "{{ [m.content, '>'] | join('') }}",
    "macro": "{% macro f(c) %}<{{ c }}>{% endmacro %}{{ f(m.content) }}",
    "call block": "{% macro f() %}<{{ caller() }}>{% endmacro %}{% call f() %}{{ m.content }}{% endcall %}",
    "namespace": "{% set ns = namespace(c='') %}{% set ns.c = m.content %}{{ ns.c }}",
    "block set": "{% set c %}{{ m.content }}{% endset %}{{ c }}",
    "roles": "{{ (messages | selectattr('role', 'equalto', 'user') | list | length) ~ m.content }}",
    "neighbours": "{{ m.content if not loop.previtem or loop.previtem.role != m.role else '' }}",
}


def chat(body: str) -> ChatTemplate:
    return ChatTemplate(LOOP.replace("BODY", body), ["</s>"])


def rows(text: str | None) -> list[Message]:
    """A conversation whose answer is `text` (none: the question said again, by the user)."""
    last = Message("user", PLAIN[0], train=True) if text is None else Message("assistant", text)
    return [Message("user", PLAIN[0]), last]


def check(template: ChatTemplate, messages: list[Message]) -> None:
    """The segments are the rendering, or the row is refused."""
    try:
        segments = template.segments(messages)
    except RowRejected:
        return
    assert "".join(s.text for s in segments) == template.render(messages)


@pytest.mark.parametrize("construct", LOOKS)
def test_a_text_that_is_looked_at_shares_no_shape(construct):
    body, telling = LOOKS[construct]
    template = chat(body)
    for messages in (rows(PLAIN[1]), rows(telling), rows(PLAIN[1])):
        check(template, messages)
    assert template.shape(rows(telling)) is None


@pytest.mark.parametrize("construct", LOOKS)
def test_what_looks_does_tell_texts_apart(construct):
    """The mutants above are real: the piece around one text is not the piece around the other."""
    body, telling = LOOKS[construct]
    template = chat(body)

    def around(messages: list[Message]) -> str:
        try:
            text = template.render(messages)
        except RowRejected as why:
            return why.reason
        return text.replace(PLAIN[0], "?").replace(messages[1].content, "!")

    assert around(rows(PLAIN[1])) != around(rows(telling))


@pytest.mark.parametrize("construct", WRITES)
def test_a_text_that_is_only_written_or_stripped_shares_its_shape(construct):
    template = chat(WRITES[construct])
    for text in (*PLAIN, " \n blanks\t", "a < b & {c} 50% '</s>'", "\ue0000\ue001"):
        messages = [Message("user", text[::-1]), Message("assistant", text)]
        assert template.shape(messages) is not None
        assert "".join(s.text for s in template.segments(messages)) == template.render(messages)


@pytest.mark.parametrize(
    ("body", "plain", "telling"),
    [
        (LOOKS["word in text"][0], "I think, </so>", "</think>"),
        (LOOKS["startswith, stripped"][0], " not x at first", "\n\nx at first"),
        (LOOKS["lstrip of others"][0], "no break\nat first", "\nat first"),
        (LOOKS["endswith"][0], "x, not at last", "at last x"),
        (LOOKS["split"][0], "nothing to split", "some</think>thing"),
    ],
)
def test_texts_without_the_word_that_is_asked_for_share_a_shape(body, plain, telling):
    template = chat(body)
    assert template.shape(rows(telling)) is None
    assert template.shape(rows(plain)) is template.shape(rows(PLAIN[1])) is not None
    assert template.shape([Message("user", telling), Message("assistant", plain)]) is None
    check(template, rows(plain))
    check(template, rows(telling))


@pytest.mark.parametrize("spelt", ["\\f", "\f", "\\ue000", "\v"])
def test_a_template_that_writes_what_marks_are_made_of_shares_no_shape(spelt):
    template = chat("{{ '%s' + m.content.strip() }}" % spelt)  # noqa: UP031 - braces
    check(template, rows(" x"))
    assert template.shape(rows(" x")) is None


def test_a_prompt_that_looks_at_a_text_shares_no_shape():
    prompt = "{{ 'A' if messages[-1].content[0] == 'A' else 'B' }}:"
    template = ChatTemplate(
        LOOP.replace("BODY", "{{ m.content }}").replace("assistant:{% endif", prompt + "{% endif"), ["</s>"]
    )
    assert template.shape(rows(PLAIN[1])) is None


def test_a_word_that_a_mark_holds_is_no_question():
    template = chat("{{ 'E' if '1' in m.content else m.content }}")
    assert "".join(s.text for s in template.segments(rows(PLAIN[1]))) == template.render(rows(PLAIN[1]))
    assert template.shape(rows(PLAIN[1])) is None


def test_a_refusal_that_depends_on_the_texts_is_not_remembered():
    template = chat(LOOKS["refusal of others"][0])
    with pytest.raises(RowRejected, match="refused by the chat template: no"):
        template.segments(rows(PLAIN[1]))
    assert "".join(s.text for s in template.segments(rows("yx"))).endswith("assistant:yx</s>")
