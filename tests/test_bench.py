"""scripts/bench_convert.py: it runs with nlpft alone, and what it prints is what was done."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
import tiny

SCRIPTS = Path(__file__).parents[1] / "scripts"
MB = 1_000_000


@pytest.fixture(autouse=True)
def _scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))


def turns(*roles: str) -> list[tuple[str, str]]:
    return [(role, f"text {number}") for number, role in enumerate(roles)]


def roles(found: list[tuple[str, str]]) -> list[str]:
    return [role for role, _ in found]


def arrow(path: Path, **columns: list[list[int]]) -> str:
    """A file as `datasets` writes it."""
    batch = pa.record_batch(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return str(path)


def test_the_benchmark_runs_with_nlpft_alone(tmp_path, tiny_folder):
    rows = [tiny.chat("how are you", "answer"), tiny.chat("word", "reply", "word", "reply"), tiny.chat("no answer")]
    file = tiny.write_json(tmp_path / "chats.json", rows)
    words = ["--file", str(file), "--model", str(tiny_folder), "--max_length", "128", "--rounds", "1", "--grow", "2"]
    more = ["--clean", "--output", str(tmp_path / "result")]
    command = [sys.executable, str(SCRIPTS / "bench_convert.py"), *words, *more]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "nlpft" in done.stdout
    result = json.loads((tmp_path / "result").read_text())
    ours = result["suites"]["nlpft"]
    assert result["rows"] == 2
    assert 0 < ours["counts"]["learnt"] < ours["counts"]["tokens"]
    assert len(ours["seconds"]) == 1
    assert ours["peak"][0] > 5
    assert ours["grown"][0] > 5


def test_a_peer_that_fails_is_left_out_and_says_why(tmp_path, monkeypatch, capsys):
    import bench_convert

    suites = [bench_convert.Suite("nlpft", "", tmp_path), bench_convert.Suite("trl", "", tmp_path)]
    run = (bench_convert.process.Run(1.0, 1.0, bench_convert.process.Memory(0, 0), ""), bench_convert.Counts(2, 1))

    def once(suite, *args):
        if suite.name == "trl":
            raise bench_convert.Failed("exit code 1\nKeyError: None")
        return run

    monkeypatch.setattr(bench_convert, "once", once)
    results = bench_convert.measure(suites, bench_convert.Config(tmp_path, rounds=2), tmp_path)
    assert list(results) == ["nlpft"]
    assert results["nlpft"].seconds == [1.0, 1.0]
    assert capsys.readouterr().err.count("trl is left out: exit code 1\nKeyError: None") == 1


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        (turns("assistant", "user", "assistant", "user"), ["user", "assistant"]),
        (turns("system", "user", "user", "assistant", "assistant"), ["system", "user", "assistant"]),
        (turns("user", "system", "assistant"), ["user", "assistant"]),
        ([("user", "question"), ("assistant", " \n")], []),
        (turns("assistant", "user"), []),
    ],
)
def test_cleaned_conversations_are_those_that_every_peer_keeps(found, kept):
    from bench import corpus

    assert roles(corpus.cleaned(found)) == kept


def test_the_complete_records_of_a_file_that_was_cut_off_are_used(tmp_path):
    from bench import corpus

    whole = json.dumps([tiny.chat("q [1]", "a"), tiny.chat("Q", "A")])
    (tmp_path / "cut.json").write_text(whole + "\n")
    assert len(list(corpus.records(tmp_path / "cut.json"))) == 2
    (tmp_path / "cut.json").write_text(whole[:-9])
    assert list(corpus.records(tmp_path / "cut.json")) == [tiny.chat("q [1]", "a")]


@pytest.mark.parametrize("array", [True, False])
def test_a_grown_file_holds_every_record_so_many_times(tmp_path, array):
    from bench import corpus

    rows = [tiny.chat("q", "a"), tiny.chat("Q", "A")]
    lines = [json.dumps(row) for row in rows]
    path = tmp_path / "rows"
    path.write_text(f"[{','.join(lines)}]\n" if array else "\n".join(lines))
    grown = corpus.grown(path, 3, tmp_path / "grown")
    assert list(corpus.records(grown)) == rows * 3


@pytest.mark.parametrize("first", [[], [{"role": "system", "content": "Be brief."}]])
def test_the_marked_template_of_trl_is_the_models_own_and_learns_answers_and_their_ends(
    tiny_folder, monkeypatch, first
):
    monkeypatch.syspath_prepend(str(SCRIPTS / "bench"))
    import job
    import with_trl
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    marked = with_trl.marked(job.Chat.of(tiny_folder))
    words = ["how are you", "answer\n", "word", "it's {{ reply }}"]
    chat = [*first, *({"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(words))]
    coded = tokenizer.apply_chat_template(
        chat, chat_template=marked, return_dict=True, return_assistant_tokens_mask=True
    )
    learnt = [token for token, mask in zip(coded["input_ids"], coded["assistant_masks"], strict=True) if mask]
    assert tokenizer.decode(coded["input_ids"]) == tokenizer.apply_chat_template(chat, tokenize=False)
    assert tokenizer.decode(learnt) == "answer\n<|im_end|>it's {{ reply }}<|im_end|>"


def test_padding_counts_as_no_token(tmp_path):
    from bench.result import count

    labels, mask = [[-100, 5, -100], [7]], [[1, 2, 0], [1]]
    padded = arrow(tmp_path / "padded", labels=labels, attention_mask=mask)
    plain = arrow(tmp_path / "plain", labels=labels)
    assert count([padded]) == (3, 2)
    assert count([padded, plain]) == (7, 4)


def test_memory_is_that_of_the_whole_tree(tmp_path):
    from bench import process

    child = f"import time; held = b'x' * {40 * MB}; print('ready', flush=True); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as root:
        assert root.stdout.readline() == "ready\n"
        tree = psutil.Process(root.pid)
        found = process.tree_memory(tree)
        for descendant in [*tree.children(recursive=True), tree]:
            descendant.kill()
    assert 40 < found.own <= found.whole < 120


def test_a_run_is_measured_and_its_failure_shown(tmp_path):
    from bench import process

    held = f"import time; held = b'x' * {60 * MB}; time.sleep(0.2); print('done')"
    run = process.run([sys.executable, "-c", held], tmp_path / "log", dict(os.environ), watch=True)
    assert run.output == "done\n"
    assert run.seconds > 0.2
    assert run.peak.own > 60
    with pytest.raises(RuntimeError, match="exit code 3\nsorry"):
        process.run(
            [sys.executable, "-c", "import sys; print('sorry', file=sys.stderr); sys.exit(3)"], tmp_path / "log", {}
        )
