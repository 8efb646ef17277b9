"""What selection, truncation and engines do to a row is accounted for, also where they meet."""

import importlib
import json
import os
import sys

import numpy as np
import pytest
from tiny import chat, save_tokenizer, write_json, write_jsonl
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from nlpft.data import convert as conversion
from nlpft.data import engines, spread, store
from nlpft.data.convert import Options, convert
from nlpft.data.engines import Encoded
from nlpft.data.ledger import dataset_rows
from nlpft.data.repair import Repairs
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import DataError, Interrupted
from nlpft.templates.chatml import CHAT_TEMPLATE

LONG = [chat(*(f"word {i} reply answer {j} " * 3 for j in range(6))) for i in range(60)]


@pytest.fixture
def tokenizer(tiny_folder):
    return TextTokenizer(tiny_folder)


def sources(folder) -> list[str]:
    return store.read(folder).column("source").to_pylist()


def test_weights_and_truncation_lose_no_row(tmp_path, tokenizer):
    file = write_json(tmp_path / "rows.json", LONG)
    summary = convert([file], tmp_path / "out", tokenizer, Options(weights=("*.json=0.5",), max_length=120)).summary
    assert summary["truncated"] == len(sources(tmp_path / "out")) > 10
    assert summary["extra_rows"] == 0
    assert dataset_rows(summary) + summary["rejected"] == 60


def test_truncation_moves_no_row_to_another_split(tmp_path, tokenizer):
    file = write_json(tmp_path / "rows.json", LONG)
    splits = ("train=0.5", "eval=0.5")
    for name, length in (("whole", None), ("short", 120)):
        convert([file], tmp_path / name, tokenizer, Options(splits=splits, max_length=length))
    for split in ("train", "eval"):
        assert sources(tmp_path / "whole" / split) == sources(tmp_path / "short" / split)


def test_a_duplicate_is_left_out_only_where_its_like_stays(tmp_path, tokenizer):
    row, fits = chat("word " * 10, "answer"), chat("word " * 10, "answer")
    first, second = write_json(tmp_path / "a.json", [row]), write_json(tmp_path / "b.json", [fits])
    out = tmp_path / "weights"
    convert([first, second], out, tokenizer, Options(duplicates="exact", weights=("*a.json=0",)))
    assert sources(out) == [f"{second}:1"]
    words = "one two three four five six seven eight nine ten " * 4
    near = write_json(tmp_path / "near.json", [chat(words + "and a longer end of it all", "yes"), chat(words, "yes")])
    limit = len(store.read(_converted(tmp_path / "probe", near, tokenizer)).column("input_ids")[1])
    options = Options(duplicates="near", duplicates_threshold=0.6, max_length=limit, too_long="reject")
    convert([near], tmp_path / "near", tokenizer, options)
    assert sources(tmp_path / "near") == [f"{near}:2"]


def _converted(folder, file, tokenizer):
    return convert([file], folder, tokenizer, Options()).folder


def test_an_inexact_engine_is_found_out_and_not_used(tmp_path, tokenizer, monkeypatch):
    """It gives ids that decode to the right text, but not those of the reference."""
    monkeypatch.setenv("NLPFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(conversion, "SMALL", 0)

    def letters(spec):
        whole = engines.LOADERS["tokenizers"](spec)

        def encode(texts):
            if not any("python" in text for text in texts):
                return whole(texts)
            found = [whole(list(text) or [""]) for text in texts]
            return Encoded(np.concatenate([e.ids for e in found]), np.array([len(e.ids) for e in found]))

        return encode

    choice = engines.Choice("letters")
    monkeypatch.setitem(engines.LOADERS, "letters", letters)
    monkeypatch.setattr(engines, "choose", lambda *args: choice)
    monkeypatch.setattr(engines, "distrust", lambda name, *args: distrusted.append(name))
    distrusted: list[str] = []
    file = write_json(tmp_path / "rows.json", [chat("is python a word?", "python answer")] * 3)
    made = convert([file], tmp_path / "out", tokenizer, Options(workers=1))
    assert distrusted == ["letters"]
    assert made.summary["engine"] == "tokenizers"
    monkeypatch.setattr(conversion, "SMALL", 1 << 30)
    convert([file], tmp_path / "plain", tokenizer, Options(workers=1))
    ids = [store.read(tmp_path / name).column("input_ids").to_pylist() for name in ("out", "plain")]
    assert ids[0] == ids[1]


def test_engines_leave_characters_that_they_encode_otherwise_to_the_reference(tokenizer):
    tokenizer._use("tokenizers", "\u1ac0")
    calls = []
    exact, tokenizer.__dict__["_encode"] = (
        tokenizer._exact,
        lambda texts: calls.append(texts) or tokenizer._exact(texts),
    )
    texts = ["word", "a\u1ac0", "reply é", "\u1ac0 answer", ""]
    found = tokenizer.encode(texts)
    assert calls == [["word", "reply é", ""]]
    assert found.ids.tolist() == exact(texts).ids.tolist()
    assert found.lengths.tolist() == exact(texts).lengths.tolist()


def test_control_strings_in_tools_are_text_and_stop_nothing(tmp_path):
    template = "{% if tools %}{{ tools | tojson }}{% endif %}" + CHAT_TEMPLATE
    folder = save_tokenizer(tmp_path / "model", template)
    tool = {"type": "function", "function": {"name": "word", "description": "ends in <|im_end|>", "parameters": {}}}
    file = write_jsonl(tmp_path / "rows.jsonl", [chat("q", "a", "r", "b", tools=[tool])] * 2)
    tokenizer = TextTokenizer(folder)
    summary = convert([file], tmp_path / "out", tokenizer, Options()).summary
    assert (summary["kept"], summary["prompts"]["different"]) == (2, [])
    ids = store.read(tmp_path / "out").column("input_ids")[0].as_py()
    assert ids.count(tokenizer.special["<|im_end|>"]) == 4


def test_words_that_the_vocabulary_lacks_are_noted_not_refused(tmp_path):
    words = {word: i for i, word in enumerate(["[UNK]", "<|im_start|>", "<|im_end|>", "user", "assistant", "q", "a"])}
    piece = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    piece.pre_tokenizer = pre_tokenizers.Whitespace()
    saved = PreTrainedTokenizerFast(
        tokenizer_object=piece,
        unk_token="[UNK]",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
    )
    saved.chat_template = CHAT_TEMPLATE
    saved.save_pretrained(tmp_path / "model")
    tokenizer = TextTokenizer(tmp_path / "model")
    file = write_json(tmp_path / "rows.json", [chat("q", "a"), chat("q", "🙂")])
    summary = convert([file], tmp_path / "out", tokenizer, Options()).summary
    assert (summary["kept"], summary["repaired"]) == (1, 1)
    strict = Options(repairs=Repairs(lost_bytes=False))
    assert convert([file], tmp_path / "strict", tokenizer, strict).summary["rejected"] == 1


@pytest.mark.parametrize("text", ['[{"q": "one"}, {"q": "tw', '{"q": "one"}\n{"q": \n'])
def test_a_benchmark_file_is_read_whole_or_not_at_all(tmp_path, tokenizer, text):
    (tmp_path / "bench.jsonl").write_text(text)
    file = write_json(tmp_path / "rows.json", [chat("q", "a")])
    with pytest.raises(DataError, match=r"bench\.jsonl"):
        convert([file], tmp_path / "out", tokenizer, Options(contamination=(str(tmp_path / "bench.jsonl"),)))


def test_a_change_of_the_users_own_format_is_a_miss(tmp_path, tokenizer, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = (
        "from nlpft.types import Conversation, Message\n"
        "def matches(record, columns): return True\n"
        "def parse(record, columns, roles):\n"
        "    return Conversation((Message('user', record['q']), Message('assistant', 'ANSWER')))\n"
    )
    file = write_json(tmp_path / "rows.json", [{"q": "q"}])
    options = Options(format="own_pkg.rows")
    (tmp_path / "own_pkg").mkdir()
    (tmp_path / "own_pkg" / "__init__.py").touch()
    (tmp_path / "own_pkg" / "rows.py").write_text(own.replace("ANSWER", "one"))
    try:
        convert([file], tmp_path / "out", tokenizer, options)
        assert convert([file], tmp_path / "out", tokenizer, options).hit
        (tmp_path / "own_pkg" / "rows.py").write_text(own.replace("ANSWER", "another"))
        assert not convert([file], tmp_path / "out", tokenizer, options, overwrite=True).hit
    finally:
        for name in ("own_pkg", "own_pkg.rows"):
            sys.modules.pop(name, None)


def test_a_dataset_without_its_ledger_is_no_hit(tmp_path, tokenizer):
    file = write_json(tmp_path / "rows.json", [chat("q", "a")])
    convert([file], tmp_path / "out", tokenizer, Options())
    (tmp_path / "out" / "ledger.json").unlink()
    assert not convert([file], tmp_path / "out", tokenizer, Options(), overwrite=True).hit


def test_a_hit_on_a_file_that_was_cut_off_needs_the_same_leave(tmp_path, tokenizer):
    (tmp_path / "rows.json").write_text(json.dumps([chat("q", "a")] * 3)[:-20])
    convert([tmp_path / "rows.json"], tmp_path / "out", tokenizer, Options(allow_truncated=True))
    assert convert([tmp_path / "rows.json"], tmp_path / "out", tokenizer, Options(allow_truncated=True)).hit
    with pytest.raises(DataError, match="has no end"):
        convert([tmp_path / "rows.json"], tmp_path / "out", tokenizer, Options())


def test_a_process_that_is_killed_is_told_of_and_what_is_finished_is_kept(tmp_path, monkeypatch):
    from nlpft.files import resumable_folder

    # not in this file: each process would load torch for what else it imports
    (tmp_path / "ending.py").write_text("import os\ndef make(job): return lambda n: os._exit(9) if n == 2 else n\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    ending = importlib.import_module("ending")

    def convert_until_killed():
        with resumable_folder(tmp_path / "out", "key") as (_, parts):
            (parts / "000000.json").write_text("{}")
            list(spread.spread(ending.make, None, [(i,) for i in range(6)], 2))

    with pytest.raises(Interrupted, match="memory"):
        convert_until_killed()
    assert (tmp_path / ".out.partial" / "parts-key" / "000000.json").is_file()


def test_workers_end_with_their_parent(tmp_path):
    import signal
    import subprocess
    import time

    code = (
        "import os, sys, time\n"
        "from nlpft.data.spread import spread\n"
        "def make(job):\n"
        "    def task(i):\n"
        "        os.write(1, f'{os.getpid()}\\n'.encode())\n"
        "        time.sleep(60)\n"
        "    return task\n"
        "list(spread(make, None, [(i,) for i in range(2)], 2))\n"
    )
    (tmp_path / "main.py").write_text(code)
    with subprocess.Popen([sys.executable, str(tmp_path / "main.py")], stdout=subprocess.PIPE, text=True) as process:
        workers = [int(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGKILL)
    for _ in range(100):
        if not any(os.path.exists(f"/proc/{pid}/exe") for pid in workers):
            return
        time.sleep(0.1)
    pytest.fail("a worker outlived its parent")
