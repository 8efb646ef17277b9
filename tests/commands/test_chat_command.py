"""`nlpft chat`: answers end where the turn ends, history is kept, Ctrl-C stops an answer and not the program."""

import io
import json

import pytest
import tiny
import torch
from adapters import save_adapter
from transformers import AutoTokenizer

from nlpft import cli
from nlpft.commands import chat
from nlpft.models import load


class Scripted:
    """A model that writes given ids whatever it reads, and keeps what it has read."""

    def __init__(self, folder, answers: list[str | BaseException]) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = load.load_model(str(folder)).eval()
        self.prompts: list[str] = []
        self.answers = iter(answers)
        self.queue: list[int | BaseException] = []
        generate = self.model.generate
        self.model.generate = lambda **settings: self.ask(generate, settings)
        self.model.lm_head.register_forward_hook(self.choose)

    def ask(self, generate, settings):
        self.prompts.append(self.tokenizer.decode(settings["input_ids"][0]))
        answer = next(self.answers)
        if isinstance(answer, tuple):
            self.queue = [*self.tokenizer.encode(answer[0]), answer[1]]
        else:
            self.queue = self.tokenizer.encode(answer)
        return generate(**settings)

    def choose(self, module, args, logits):
        token = self.queue.pop(0)
        if isinstance(token, BaseException):
            raise token
        return torch.full_like(logits, -9e9).index_fill_(-1, torch.tensor([token]), 0.0)


@pytest.fixture
def script(tiny_folder, monkeypatch):
    def make(*answers, folder=tiny_folder):
        scripted = Scripted(folder, list(answers))
        monkeypatch.setattr(load, "load_model", lambda name, dtype="auto": scripted.model)
        return scripted

    return make


def talk(monkeypatch, capsys, folder, text: str, *words: str) -> str:
    """What a pipe gets."""
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert cli.main(["chat", str(folder), *words]) == 0
    return capsys.readouterr().out


def type_in(monkeypatch, folder, lines: list[str | BaseException], *words: str) -> None:
    """A conversation at the keyboard, until Ctrl-D."""
    keys = iter([*lines, EOFError()])

    def keyboard(prompt):
        line = next(keys)
        if isinstance(line, BaseException):
            raise line
        return line

    monkeypatch.setattr("builtins.input", keyboard)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert cli.main(["chat", str(folder), *words]) == 0


def test_a_pipe_gets_the_answer_alone_and_it_ends_with_the_turn(script, tiny_folder, monkeypatch, capsys):
    model = script("Hello there<|im_end|>and on and on")
    assert talk(monkeypatch, capsys, tiny_folder, "word\n") == "Hello there\n"
    assert model.prompts == ["<|im_start|>user\nword<|im_end|>\n<|im_start|>assistant\n"]


def test_an_answer_ends_with_the_turn_where_sequences_end_otherwise(script, tmp_path, monkeypatch, capsys):
    folder = tiny.save_model(tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.save_pretrained(folder)
    model = script("Hello<|im_end|>and on", "Hello<|endoftext|>and on", folder=folder)
    model.model.generation_config.eos_token_id = None
    assert talk(monkeypatch, capsys, folder, "one\ntwo\n") == "Hello\nHello\n"


def test_history_is_kept_until_a_reset(script, tiny_folder, monkeypatch):
    model = script("one<|im_end|>", "two<|im_end|>", "three<|im_end|>")
    type_in(monkeypatch, tiny_folder, ["a", "", "b", "/reset", "c", "/exit", "d"], "--system", "be good")
    system = "<|im_start|>system\nbe good<|im_end|>\n"
    first = f"{system}<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
    assert model.prompts == [
        first,
        f"{first}one<|im_end|>\n<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n",
        f"{system}<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n",
    ]


def test_ctrl_c_stops_the_answer_and_the_conversation_goes_on(script, tiny_folder, monkeypatch, capsys):
    model = script(("Hello there", KeyboardInterrupt()), "fine<|im_end|>")
    type_in(monkeypatch, tiny_folder, ["a", "b"])
    assert capsys.readouterr().out.split("\n") == ["Hello there", "", "fine", "", "", ""]
    assert "assistant\nHello there<|im_end|>\n<|im_start|>user\nb" in model.prompts[1]


def test_ctrl_c_ends_what_comes_through_a_pipe(script, tiny_folder, monkeypatch, capsys):
    model = script(("Hello there", KeyboardInterrupt()), "fine<|im_end|>")
    monkeypatch.setattr("sys.stdin", io.StringIO("a\nb\n"))
    assert cli.main(["chat", str(tiny_folder)]) == 130
    assert len(model.prompts) == 1


def test_each_line_of_a_pipe_is_a_conversation_of_its_own_and_none_a_command(script, tiny_folder, monkeypatch, capsys):
    asked = ["a", "/reset", "/exit", "/save x", "b"]
    model = script(*["word<|im_end|>"] * len(asked))
    assert talk(monkeypatch, capsys, tiny_folder, "\n\n".join(asked)) == "word\n" * len(asked)
    assert model.prompts == [f"<|im_start|>user\n{a}<|im_end|>\n<|im_start|>assistant\n" for a in asked]


def test_lines_of_a_pipe_can_be_turns_of_one_conversation(script, tiny_folder, monkeypatch, capsys):
    model = script("one<|im_end|>", "two<|im_end|>")
    talk(monkeypatch, capsys, tiny_folder, "a\n/reset\n", "--turns")
    assert model.prompts[1].startswith(f"{model.prompts[0]}one<|im_end|>\n<|im_start|>user\n/reset<|im_end|>")


def test_a_line_that_cannot_be_asked_is_named_and_the_others_are_answered(script, tiny_folder, monkeypatch, capsys):
    script("one<|im_end|>", "two<|im_end|>")
    monkeypatch.setattr("sys.stdin", io.StringIO("a\n" + "word " * 300 + "\nb\n"))
    assert cli.main(["chat", str(tiny_folder)]) == 1
    printed = capsys.readouterr()
    assert printed.out == "one\ntwo\n"
    said = " ".join(printed.err.split())
    assert "line 2: this question alone has 311" in said
    assert "the model sees 256" in said


@pytest.mark.parametrize("system", [[], ["--system", "be good"]])
def test_the_oldest_turns_are_read_no_more_where_there_is_no_room_and_that_is_said(
    script, tiny_folder, monkeypatch, capsys, system
):
    model = script(*["word<|im_end|>"] * 6)
    questions = [f"{n} " + "reply " * 50 for n in range(6)]
    type_in(monkeypatch, tiny_folder, questions, "--max_new_tokens", "9", *system)
    assert all(len(model.tokenizer.encode(prompt)) <= 256 - 9 for prompt in model.prompts)
    start = "<|im_start|>system\nbe good<|im_end|>\n" if system else ""
    first = [prompt.removeprefix(f"{start}<|im_start|>user\n")[:2] for prompt in model.prompts]
    assert first == ["0 ", "0 ", "0 ", "1 ", "2 ", "3 "]
    said = " ".join(capsys.readouterr().err.split())
    assert "the first 2 turns are not read any more: the model sees 256 tokens" in said
    assert "the first 4 turns" in said


def test_a_model_that_names_no_context_has_no_limit(script, tiny_folder, monkeypatch, capsys):
    model = script("one<|im_end|>")
    vars(model.model.config)["max_position_embeddings"] = None  # as configurations that have no such number
    assert talk(monkeypatch, capsys, tiny_folder, "a\n") == "one\n"


@pytest.mark.parametrize("adapters", [False, True])
def test_another_template_than_the_model_was_trained_with_is_refused_unless_forced(
    tiny_folder, tmp_path, monkeypatch, capsys, adapters
):
    adapter = save_adapter(tmp_path / "adapter", tiny_folder, 0.5)
    line = ["chat", *([str(tiny_folder), "--adapters"] if adapters else []), str(adapter), "--template", "alpaca"]
    monkeypatch.setattr("sys.stdin", io.StringIO("a\n"))
    assert cli.main([*line, "--max_new_tokens", "2"]) == 2
    assert "another chat template" in capsys.readouterr().err
    assert cli.main([*line, "--max_new_tokens", "2", "--force"]) == 0


def test_an_empty_pipe_is_no_question(tiny_folder, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO(" \n"))
    assert cli.main(["chat", str(tiny_folder), "--whole"]) == 2
    assert "nothing came through the pipe" in capsys.readouterr().err


def test_an_answer_that_is_cut_is_said_to_be(script, tiny_folder, monkeypatch, capsys):
    script("word " * 50)
    monkeypatch.setattr("sys.stdin", io.StringIO("a\n"))
    assert cli.main(["chat", str(tiny_folder), "--max_new_tokens", "7"]) == 0
    printed = capsys.readouterr()
    assert len(AutoTokenizer.from_pretrained(tiny_folder).encode(printed.out.rstrip("\n"))) == 7
    assert "cut at 7 tokens" in printed.err


def test_an_answer_fills_the_context_and_no_more(script, tiny_folder, monkeypatch, capsys):
    model = script("word " * 300)
    monkeypatch.setattr("sys.stdin", io.StringIO("word " * 100 + "\n"))
    assert cli.main(["chat", str(tiny_folder), "--max_new_tokens", "999"]) == 0
    prompt = len(model.tokenizer.encode(model.prompts[0]))
    assert f"cut at {256 - prompt} tokens" in capsys.readouterr().err


def test_temperature_samples_and_zero_does_not(tiny_folder, monkeypatch, capsys):
    greedy = [talk(monkeypatch, capsys, tiny_folder, "a\n", "--max_new_tokens", "20") for _ in range(2)]
    assert greedy[0] == greedy[1]
    hot = ["--max_new_tokens", "20", "--temperature", "5"]
    assert len({talk(monkeypatch, capsys, tiny_folder, "a\n", *hot) for _ in range(3)}) > 1


def test_the_keyboard_asks_until_ctrl_d_and_survives_errors(script, tiny_folder, monkeypatch, capsys):
    model = script("one<|im_end|>", "two<|im_end|>")
    type_in(monkeypatch, tiny_folder, ["hi", KeyboardInterrupt(), "word " * 300, "/reset", "again"])
    printed = capsys.readouterr()
    assert [line for line in printed.out.splitlines() if line and chat.HELP not in line] == ["one", "two"]
    assert "ask a shorter one" in printed.err
    assert len(model.prompts) == 2


def test_a_model_without_a_template_is_refused_with_a_remedy(tmp_path, monkeypatch, capsys):
    folder = tiny.save_model(tmp_path / "plain")
    tiny.save_tokenizer(folder, chat_template=None)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    monkeypatch.setattr("sys.stdin", io.StringIO("a\n"))
    assert cli.main(["chat", str(folder)]) == 2
    said = capsys.readouterr().err
    assert "nlpft convert --template" in said
    assert "chatml, gemma, llama3" in said


def test_a_template_can_be_lent_to_a_model_without_one(script, tmp_path, monkeypatch, capsys):
    folder = tiny.save_model(tmp_path / "plain")
    tiny.save_tokenizer(folder, chat_template=None)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    model = script("Hello<|im_end|>", folder=folder)
    assert talk(monkeypatch, capsys, folder, "word\n", "--template", "vicuna") == "Hello\n"
    assert model.prompts == ["USER: word ASSISTANT:"]


def test_what_the_template_refuses_is_said(tmp_path, script, monkeypatch, capsys):
    folder = tiny.save_model(tmp_path / "strict")
    template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}x<|im_end|>"
    tiny.save_tokenizer(folder, chat_template=template)
    script(folder=folder)
    monkeypatch.setattr("sys.stdin", io.StringIO("a\n"))
    assert cli.main(["chat", str(folder), "--system", "s"]) == 1
    assert "no system here" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--max_new_tokens", "0"], ["--temperature", "-1"], ["--turns", "--whole"]])
def test_settings_out_of_range_are_refused_before_the_model_is_loaded(words, capsys):
    assert cli.main(["chat", "./gone", *words]) == 2
    assert words[0][2:] in capsys.readouterr().err


def test_undo_forgets_the_last_answer_and_its_question(script, tiny_folder, monkeypatch, capsys):
    model = script("one<|im_end|>", "two<|im_end|>", "three<|im_end|>")
    type_in(monkeypatch, tiny_folder, ["/undo", "a", "b", "/undo", "c"])
    first = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
    assert model.prompts[2] == f"{first}one<|im_end|>\n<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n"


def test_a_saved_conversation_is_one_that_convert_reads(script, tiny_folder, tmp_path, monkeypatch, capsys):
    script("one<|im_end|>", "two<|im_end|>")
    type_in(monkeypatch, tiny_folder, ["a", "b", f"/save {tmp_path / 'kept.json'}"], "--system", "be good")
    (row,) = json.loads((tmp_path / "kept.json").read_text())
    assert [tuple(m.values()) for m in row["messages"]] == [
        ("system", "be good"), ("user", "a"), ("assistant", "one"), ("user", "b"), ("assistant", "two"),
    ]  # fmt: skip
    data = tmp_path / "data"
    assert cli.main(["convert", str(tmp_path / "kept.json"), "-o", str(data), "--model", str(tiny_folder)]) == 0
    assert json.loads((data / "ledger.json").read_text())["kept"] == 1


@pytest.mark.parametrize(
    ("name", "said"), [("", "needs a file's name"), ("there", "already there"), ("gone/x", "cannot be written")]
)
def test_a_file_that_cannot_be_saved_is_said_and_nothing_lost(
    name, said, tiny_folder, tmp_path, script, monkeypatch, capsys
):
    (tmp_path / "there").write_text("mine")
    script()
    monkeypatch.chdir(tmp_path)
    type_in(monkeypatch, tiny_folder, [f"/save {name}"])
    assert said in capsys.readouterr().err
    assert (tmp_path / "there").read_text() == "mine"


def test_tokens_are_shown_with_their_ids_on_demand(script, tiny_folder, monkeypatch, capsys):
    model = script("one<|im_end|>")
    type_in(monkeypatch, tiny_folder, ["a", "/tokens"])
    printed = capsys.readouterr()
    ids = model.tokenizer.encode(model.prompts[0])
    said = " ".join(printed.err.split())
    assert f"prompt, {len(ids)} tokens" in said
    assert all(f"{json.dumps(model.tokenizer.decode([i]))[1:-1].strip()} {i}" in said for i in ids)
    assert said.endswith(f"<|im_end|> {model.tokenizer.convert_tokens_to_ids('<|im_end|>')}")
    assert printed.out.strip() == "one"


def test_all_of_a_pipe_can_be_one_question(script, tiny_folder, monkeypatch, capsys):
    model = script("one<|im_end|>")
    assert talk(monkeypatch, capsys, tiny_folder, "/reset\na\n\nb\n", "--whole") == "one\n"
    assert model.prompts == ["<|im_start|>user\n/reset\na\n\nb<|im_end|>\n<|im_start|>assistant\n"]


@pytest.fixture
def two(tiny_folder, tmp_path):
    folders = [
        save_adapter(tmp_path / name, tiny_folder, strength) for name, strength in {"v1.0": 3.0, "b": 300.0}.items()
    ]
    return list(map(str, folders))


def test_adapters_side_by_side_answer_as_each_does_alone_with_its_own_history(two, tiny_folder, monkeypatch, capsys):
    def said(model, questions, *words):
        return talk(monkeypatch, capsys, model, questions, "--turns", "--max_new_tokens", "9", *words)

    models = [tiny_folder, *two]
    first = [said(model, "Hello there\n") for model in models]
    second = [said(model, "Hello there\nreply\n").removeprefix(one) for model, one in zip(models, first, strict=True)]
    assert len(set(first)) == 3
    labels = ["[base]\n", "[v1.0]\n", "[b]\n"]
    expected = [label + answer for answers in (first, second) for label, answer in zip(labels, answers, strict=True)]
    assert said(tiny_folder, "Hello there\nreply\n", "--adapters", *two) == "".join(expected)
    assert said(two[0], "Hello there\n", "--adapters", two[1]) == "".join(expected[1:3])


def test_side_by_side_there_is_one_base_in_memory(two, tiny_folder, monkeypatch, capsys):
    loaded, load_model = [], load.load_model
    monkeypatch.setattr(load, "load_model", lambda name, *rest: loaded.append(name) or load_model(name, *rest))
    talk(monkeypatch, capsys, tiny_folder, "word\n", "--max_new_tokens", "2", "--adapters", *two)
    assert loaded == [str(tiny_folder)]


def test_an_adapter_for_another_base_is_refused_before_anything_is_loaded(two, tmp_path, monkeypatch, capsys):
    other = tiny.save_model(tmp_path / "other")
    monkeypatch.setattr(load, "load_model", lambda *rest: pytest.fail("loaded"))
    assert cli.main(["chat", str(other), "--adapters", *two]) == 2
    assert "was trained on" in capsys.readouterr().err
