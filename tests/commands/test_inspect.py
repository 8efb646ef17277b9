"""`nlpft inspect` shows what the model is trained on, also without colours and without torch."""

import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import tiny

from nlpft import cli
from nlpft.commands import inspect
from nlpft.data import store
from nlpft.data.tokenizer import TextTokenizer

ROWS = [
    tiny.chat("Hello <|im_end|> there", "naïve 🙂 日本\n  bye"),
    tiny.chat("one", "two", "three", "four"),
    tiny.chat("question without answer"),
    tiny.chat("word " * 300, "too long"),
    tiny.chat("escape \x1b[31m", "done"),
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, tiny_folder):
    folder = tmp_path_factory.mktemp("inspect")
    file = tiny.write_json(folder / "rows.json", ROWS)
    assert cli.main(["convert", str(file), "-o", str(folder / "out"), "--model", str(tiny_folder)]) == 0
    return folder / "out"


def shown(capsys, *words) -> str:
    assert cli.main(["inspect", *map(str, words)]) == 0
    return capsys.readouterr().out


def test_a_pipe_gets_the_learnt_text_in_brackets(dataset, capsys):
    out = shown(capsys, dataset)
    assert re.findall(r"⟦(.*?)⟧", out, re.DOTALL) == [
        "naïve 🙂 日本\n  bye<|im_end|>",
        "two<|im_end|>",
        "four<|im_end|>",
        "done<|im_end|>",
        "learnt",
    ]
    assert "\x1b" not in out  # neither ours nor the data's
    assert r"escape \x1b[31m" in out
    assert "<|im_start|>user\nHello <|im_end|> there<|im_end|>\n<|im_start|>assistant\n⟦" in out


def test_a_terminal_gets_the_learnt_text_in_colour(dataset, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    out = shown(capsys, dataset, "--source", "rows.json:2")
    assert "⟦" not in out
    assert "\x1b[32mtwo\x1b[0m\x1b[1;32m<|im_end|>" in out
    assert "\x1b[35m<|im_start|>\x1b[0muser\none\x1b[35m<|im_end|>" in out


def test_the_summary_counts_what_the_dataset_holds(dataset, capsys):
    table = store.read(dataset)
    lengths = table.column("length").to_pylist()
    learnt = sum(label != -100 for row in table.column("labels").to_pylist() for label in row)
    words = shown(capsys, dataset, "--rows", 0).split()
    assert words[:5] == ["rows", "3", "tokens", f"{sum(lengths)}", "learnt"]
    assert words[5] == str(learnt)
    assert f"min {min(lengths)}, median {sorted(lengths)[1]}," in " ".join(words)


def test_lengths_and_learnt_counts_are_those_of_the_rows_however_they_are_chunked():
    rows = [[1, 2, 3], [], [4], [5, 6]]
    labels = [[-100, 2, 3], [], [-100], [5, 6]]
    pieces = [
        pa.table({"input_ids": pa.array(rows[a:b], t), "labels": pa.array(labels[a:b], t)})
        for t in [pa.list_(pa.int32())]
        for a, b in ((0, 2), (2, 4))
    ]
    for table in (pa.concat_tables(pieces), pa.concat_tables(pieces).slice(1)):
        lengths, learnt = inspect.lengths_and_learnt(table)
        assert lengths.tolist() == [3, 0, 1, 2][-len(table) :]
        assert learnt.tolist() == [2, 0, 0, 2][-len(table) :]


def test_tokens_are_shown_one_by_one_and_parts_of_characters_as_bytes(dataset, capsys, tiny_folder):
    lines = shown(capsys, dataset, "--source", "rows.json:1", "--tokens").splitlines()
    tokens = [line.split(maxsplit=2) for line in lines[1 : lines.index("")]]
    ids = store.read(dataset).column("input_ids")[0].as_py()
    assert [int(t[0]) for t in tokens] == list(range(len(ids)))
    assert [int(t[1]) for t in tokens] == ids
    texts = [t[2].strip("⟦⟧") for t in tokens]
    assert texts[0] == "<|im_start|>"
    assert '"\\n"' in texts
    bits = [t for t in texts if t.startswith("\\x")]
    assert "".join(bits) == "".join(f"\\x{b:02x}" for b in "ï🙂日本".encode())


def test_runs_join_to_the_text_of_the_row(tiny_folder, dataset):
    tokenizer = TextTokenizer(tiny_folder)
    table = store.read(dataset)
    for number in range(len(table)):
        ids, learnt = inspect.row(table, number)
        joined = "".join(run.text for run in inspect.runs(ids, learnt, tokenizer))
        assert joined == inspect.visible(tokenizer.decode(ids))


def test_tokens_of_a_sentencepiece_model_keep_their_blanks(tiny_folder):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {"▁user": 0, "▁asks": 1, ":": 2, "<s>": 3}
    tokenizer = TextTokenizer(tiny_folder)
    tokenizer.special = {"<s>": 3}
    tokenizer._exact = Tokenizer(models.WordLevel(vocabulary, unk_token=":"))
    tokenizer._exact.pre_tokenizer, tokenizer._exact.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    ids = np.array([0, 1, 2, 1], np.int32)
    learnt = np.array([False, True, False, True])
    assert [run.text for run in inspect.runs(ids, learnt, tokenizer)] == ["user", " asks", ":", " asks"]


def test_a_row_is_found_by_its_place_with_or_without_folders(dataset, capsys):
    full = store.read(dataset).column("source")[1].as_py()
    assert shown(capsys, dataset, "--source", full) == shown(capsys, dataset, "--source", "rows.json:2")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("rows.json:3", "rejected, no answer"),
        ("rows.json:4", "rejected, too long"),
        ("rows.json:9", "neither kept nor rejected"),
    ],
)
def test_a_row_that_is_not_there_gets_the_reason(dataset, capsys, source, said):
    assert cli.main(["inspect", str(dataset), "--source", source]) == 2
    assert said in capsys.readouterr().err


def test_a_dataset_of_another_program_is_shown_with_the_model_named(tmp_path, tiny_folder, capsys):
    import datasets

    rows = [{"input_ids": [1, 282, 67, 2], "labels": [-100, -100, 67, 2]}]  # 64-bit, no source, no length
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "foreign")
    capsys.readouterr()
    assert cli.main(["inspect", str(tmp_path / "foreign")]) == 2
    assert "--model" in capsys.readouterr().err
    out = shown(capsys, tmp_path / "foreign", "--model", tiny_folder)
    assert "row 1  4 tokens, 2 learnt (50%)\n<|im_start|>user⟦a<|im_end|>⟧" in out


def test_ids_of_another_vocabulary_are_refused(tmp_path, tiny_folder, capsys):
    import datasets

    datasets.Dataset.from_list([{"input_ids": [1, 4000], "labels": [1, 4000]}]).save_to_disk(tmp_path / "foreign")
    assert cli.main(["inspect", str(tmp_path / "foreign"), "--model", str(tiny_folder)]) == 2
    assert "no token 4000" in capsys.readouterr().err


def test_nothing_heavy_is_loaded(dataset):
    code = f"""
import sys
from nlpft.cli import main
main(["inspect", {str(dataset)!r}])
print("LOADED", *[m for m in ("torch", "transformers", "datasets", "pandas") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED"
