"""Chat templates: pieces are found, not guessed; what cannot be cut faithfully is refused."""

import pytest
from tiny import save_tokenizer
from transformers import AutoTokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from nlpft import plugins
from nlpft.data.tokenize import tokenize
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ConfigError, ModelError, RowRejected
from nlpft.templates._chat import ChatTemplate
from nlpft.types import Message

TOKENS = [
    *("<|im_start|>", "<|im_end|>", "</s>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<start_of_turn>", "<end_of_turn>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
]
LOOP = "{% for m in messages %}%s{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
CHAT = [
    Message("user", " Hello\n"),
    Message("assistant", "\n\nHi  "),
    Message("user", "Again?"),
    Message("assistant", "Yes"),
]


def template(body: str) -> ChatTemplate:
    return ChatTemplate(body, TOKENS, bos_token="<s>", eos_token="</s>")


def loop(body: str) -> ChatTemplate:
    return template(LOOP.replace("%s", body))


@pytest.mark.parametrize("name", plugins.names("templates"))
@pytest.mark.parametrize("system", [True, False])
def test_segments_are_the_rendering(name, system):
    chat = template(plugins.load("templates", name).CHAT_TEMPLATE)
    messages = [*([Message("system", "Be brief.")] if system else []), *CHAT]
    assert "".join(s.text for s in chat.segments(messages)) == chat.render(messages)
    learnt = "".join(s.text for s in chat.segments(messages) if s.train)
    ends = {"chatml": "<|im_end|>", "llama3": "<|eot_id|>", "gemma": "<end_of_turn>", "phi3": "<|end|>"}
    end = ends.get(name, "</s>")
    blank = " " if name in ("vicuna", "mistral") else ""  # it stands behind the prompt, so the model writes it
    assert learnt == f"{blank}\n\nHi  {end}{blank}Yes{end}"


@pytest.mark.parametrize("name", plugins.names("templates"))
def test_the_prompt_is_a_prefix_of_its_example(name):
    chat = template(plugins.load("templates", name).CHAT_TEMPLATE)
    for turns in (1, 3):
        prompt = "".join(s.text for s in chat.segments(CHAT[:turns], generate=True))
        assert prompt == chat.render(CHAT[:turns], generate=True)
        assert chat.render(CHAT).startswith(prompt)


@pytest.mark.parametrize("answer", ["Hi", "\n\nHi", "  code\n", "<|im_end|>", "é🙂", " "])
def test_prompt_tokens_are_a_prefix_whatever_the_answer_begins_with(tiny_folder, answer):
    tokenizer = TextTokenizer(tiny_folder)
    chat = tokenizer.chat_template()
    question = [Message("user", "Hello\n")]
    rows = [chat.segments(question, generate=True), chat.segments([*question, Message("assistant", answer)])]
    prompt, example = tokenize(rows, chat, tokenizer).column("input_ids").to_pylist()
    assert example[: len(prompt)] == prompt


def test_stripped_texts_are_stripped():
    chat = loop("{{ m.role + ':' + (m.content | trim if m.role == 'user' else m.content) + '</s>' }}")
    assert "".join(s.text for s in chat.segments(CHAT)) == chat.render(CHAT)
    assert [s.text for s in chat.segments(CHAT) if not s.control] == ["Hello", "\n\nHi  ", "Again?", "Yes"]


@pytest.mark.parametrize("strip", ["| trim", ".strip()", ".lstrip('\\n')", ".rstrip()", ".lstrip()"])
def test_answers_may_lose_blanks_at_their_ends_only(strip):
    chat = loop("{{ m.role + ':' + (m.content STRIP) + '</s>' }}".replace("STRIP", strip))
    segments = chat.segments(CHAT)
    assert "".join(s.text for s in segments) == chat.render(CHAT)
    answers = [s.text for s in segments if s.train and not s.control]
    assert [a.strip() for a in answers] == ["Hi", "Yes"]
    assert all(a in m.content for a, m in zip(answers, CHAT[1::2], strict=True))


def test_a_default_system_turn_is_template_text():
    chat = template(
        "{% if messages[0].role != 'system' %}system:Default{% endif %}"
        + LOOP.replace("%s", "{{ m.role + ':' + m.content + '</s>' }}")
    )
    assert chat.segments(CHAT)[0].text.startswith("system:Default")
    assert not chat.segments(CHAT)[0].train


def test_text_that_the_template_writes_before_an_answer_is_learnt():
    chat = loop("{{ m.role + ':' + ('<think></think>' if m.role == 'assistant' else '') + m.content + '</s>' }}")
    assert "".join(s.text for s in chat.segments(CHAT[:2]) if s.train) == "<think></think>\n\nHi  </s>"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("{{ m.role + ':' + m.content + m.content + '</s>' }}", "drops or repeats"),
        ("{{ m.role + ':' + (m.content if loop.last else '') + '</s>' }}", "drops or repeats"),
        ("{{ m.role + ':' + m.content[2:] + '</s>' }}", "drops or repeats|changes a text"),
        ("{{ m.role + ':' + m.content.replace(' ', '_') + '</s>' }}", "changes a text"),
        ("{{ m.role + ':' + m.content.split('H')[-1] + '</s>' }}", "changes a text"),
        ("{{ m.role + ':' + ' ' + m.content.replace('i', 'I').replace('e', 'E') + '</s>' }}", "changes a text"),
        ("{{ m.role + ('(old):' if not loop.last else ':') + m.content + '</s>' }}", "rewrites history"),
    ],
)
def test_what_cannot_be_cut_faithfully_is_refused(body, reason):
    with pytest.raises(RowRejected, match=reason):
        loop(body).segments(CHAT)


def test_a_template_that_never_ends_an_answer_is_refused():
    with pytest.raises(ModelError, match="never stop"):
        loop("{{ m.role + ':' + m.content + ' ' }}").segments(CHAT)


def test_a_template_that_raises_rejects_the_row():
    with pytest.raises(RowRejected, match="no tools here"):
        template("{{ raise_exception('no tools here') }}").segments(CHAT)


def test_broken_jinja_is_named():
    with pytest.raises(ModelError, match="not valid Jinja"):
        template("{% for %}")


def test_rendering_equals_transformers(tiny_folder):
    reference = AutoTokenizer.from_pretrained(tiny_folder)
    source = (
        "{{- bos_token }}\n{% for m in messages %}\n  {%- if loop.first %}{{ strftime_now('%Y') }}{% endif %}\n"
        "    {% set seen = 'outside' %}{% if m.role == 'assistant' %}"
        "{% generation %}{% set seen = 'inside' %}{{ m.content + seen }}{% endgeneration %}{{ seen }}"
        "{% else %}\n{{ m | tojson }}{% endif %}\n"
        "{% endfor %}{% if add_generation_prompt %}A:{% endif %}"
    )
    chat = ChatTemplate(source, TOKENS, bos_token="", eos_token="<|im_end|>")
    plain = [{"role": m.role, "content": m.content + "<é>"} for m in CHAT]
    messages = [Message(m.role, m.content + "<é>") for m in CHAT]
    for generate in (False, True):
        theirs = reference.apply_chat_template(
            plain, chat_template=source, tokenize=False, add_generation_prompt=generate, bos_token=""
        )
        assert chat.render(messages, generate) == theirs


def test_tokens_that_the_tokenizer_lacks_are_undefined_as_in_transformers():
    source = "{% for name in [bos_token, pad_token, unk_token] %}{{ name if name is defined else 'none' }},{% endfor %}"
    chat = ChatTemplate(source, TOKENS, bos_token="", eos_token="</s>", pad_token="<pad>")
    rendered, _ = render_jinja_template([[m.as_dict() for m in CHAT]], chat_template=source, pad_token="<pad>")
    assert chat.render(CHAT) == rendered[0] == "none,<pad>,none,"


def test_a_tokenizer_without_template_says_what_to_choose(tmp_path):
    with pytest.raises(ModelError, match=r"--template .*chatml"):
        TextTokenizer(save_tokenizer(tmp_path, chat_template=None)).chat_template()


def test_a_built_in_template_needs_its_tokens(tiny_folder):
    with pytest.raises(ConfigError, match=r"<\|eot_id\|>"):
        TextTokenizer(tiny_folder).chat_template("llama3")
