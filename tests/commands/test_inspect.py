"""`nlpft inspect` shows what the model is trained on and what became of a row, also without colours and without torch."""

import re
import subprocess
import sys

import datasets
import on_disk
import pytest
import tiny
from on_disk import Chat, refused

from nlpft import cli
from nlpft.data import store

ROWS = [
    Chat("some/rows.json:1", ("Hello <|im_end|> there", "naïve 🙂 日本\n  bye")),
    Chat("some/rows.json:2", ("one", "two", "three", "four"), ("two turns of one role merged", "blank turn dropped")),
    Chat("some/rows.json:5", ("escape \x1b[31m", "done")),
    Chat("other.json:5", ("escape \x1b[31m", "done")),
]
REJECTED = [
    refused("some/rows.json:3", "no answer", "nothing to \x1b learn", {"conversations": ["q \x1b[31m", "\ud800"]}),
    refused("some/rows.json:4", "not JSON", "", '{"conversations": ['),
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, tiny_folder):
    return on_disk.write(tmp_path_factory.mktemp("inspect") / "out", ROWS, REJECTED, tiny_folder)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A dataset that another program wrote: 64-bit, without source and length."""
    folder = tmp_path_factory.mktemp("foreign")
    rows = [{"input_ids": [1, 282, 67, 2], "labels": [-100, -100, 67, 2]}]
    datasets.Dataset.from_list(rows).save_to_disk(folder)
    return folder


def shown(capsys, *words) -> str:
    capsys.readouterr()
    assert cli.main(["inspect", *map(str, words)]) == 0
    return capsys.readouterr().out


def refusal(capsys, *words) -> str:
    capsys.readouterr()
    assert cli.main(["inspect", *map(str, words)]) == 2
    return capsys.readouterr().err


def test_a_pipe_gets_the_learnt_text_in_brackets(dataset, capsys):
    out = shown(capsys, dataset)
    assert re.findall(r"⟦(.*?)⟧", out, re.DOTALL) == [
        "naïve 🙂 日本\n  bye<|im_end|>",
        "two<|im_end|>",
        "four<|im_end|>",
        "done<|im_end|>",
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


def test_the_summary_counts_what_the_dataset_holds_and_what_was_read(dataset, capsys):
    table = store.read(dataset)
    lengths = sorted(table.column("length").to_pylist())
    learnt = sum(label != -100 for row in table.column("labels").to_pylist() for label in row)
    words = shown(capsys, dataset, "--rows", 0).split()
    assert words[:5] == ["rows", "4", "tokens", f"{sum(lengths)}", "learnt"]
    assert words[5] == str(learnt)
    assert f"min {lengths[0]}, median {round(sum(lengths[1:3]) / 2)}," in " ".join(words)
    assert "read 6 rows: 3 kept, 1 repaired, 0 truncated, 2 rejected" in " ".join(words)


def test_tokens_are_shown_one_by_one_and_parts_of_characters_as_bytes(dataset, capsys):
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


def test_a_row_is_found_by_its_place_with_or_without_folders(dataset, capsys):
    whole, short = (shown(capsys, dataset, "--source", f"{folder}rows.json:2") for folder in ("some/", ""))
    assert whole == short
    assert "── some/rows.json:2" in whole
    assert "rows.json:2" in refusal(capsys, dataset, "--source", "ome/rows.json:2")


def test_a_repaired_row_shows_its_repairs(dataset, capsys):
    first = shown(capsys, dataset, "--source", "rows.json:2").splitlines()[0]
    assert first.endswith("  two turns of one role merged; blank turn dropped")
    assert shown(capsys, dataset, "--source", "rows.json:1").splitlines()[0].endswith("%)")


def test_a_rejected_row_is_shown_with_reason_and_remedy(dataset, capsys):
    out = shown(capsys, dataset, "--source", "rows.json:3")
    assert r"── some/rows.json:3  rejected, no answer: nothing to \x1b learn" in out
    assert "offset: 120\nid: id-7\nremedy: mend it\n" in out
    assert r'"q \u001b[31m"' in out
    assert r"\ud800" in out  # the lone surrogate, which nothing could print
    assert '"{\\"conversations\\": ["' in shown(capsys, dataset, "--source", "rows.json:4")


def test_a_row_of_which_nothing_is_known_is_an_error(dataset, foreign, capsys):
    assert "neither kept nor rejected" in refusal(capsys, dataset, "--source", "rows.json:9")
    assert "do not say where they came from" in refusal(capsys, foreign, "--source", "rows.json:1")


def test_a_split_finds_its_rejected_rows_in_the_folder_above(tmp_path, dataset, tiny_folder, capsys):
    on_disk.write(tmp_path / "train", ROWS, [], tiny_folder)
    for name in ("ledger.json", "rejected.jsonl"):
        (tmp_path / "train" / name).unlink()
    store.write_splits(tmp_path, ["train", "test"], {"fingerprint": "f"})
    on_disk.write_ledger(tmp_path, ROWS, REJECTED)
    assert "rejected, no answer" in shown(capsys, tmp_path / "train", "--source", "rows.json:3")
    assert "look in the other splits" in refusal(capsys, tmp_path / "train", "--source", "rows.json:9")


def test_statistics_count_lengths_answers_roles_special_tokens_scripts_and_copies(dataset, capsys):
    words = " ".join(shown(capsys, dataset, "--rows", 0, "--statistics").split())
    assert re.search(r"answers \(runs of learnt tokens\), rows 1 3 █+ 2 1 █", words)
    assert re.search(r"role, tokens user 120 █+ assistant 80 █+ template 40 █", words)
    assert re.search(r"special token, times <\|im_start\|> 10 █+ <\|im_end\|> 10 █", words)
    assert re.search(r"script of the learnt text, of 4 rows Latin 4 █", words)
    assert words.endswith("copies 1 rows are copies of an earlier one some/rows.json:5 = other.json:5")


def test_a_dataset_of_another_program_is_shown_with_the_model_named(foreign, tiny_folder, capsys):
    assert "--model" in refusal(capsys, foreign)
    out = shown(capsys, foreign, "--model", tiny_folder)
    assert "row 1  4 tokens, 2 learnt (50%)\n<|im_start|>user⟦a<|im_end|>⟧" in out


def test_statistics_need_no_tokenizer_but_say_what_is_missing_without(foreign, capsys):
    out = shown(capsys, foreign, "--rows", 0, "--statistics")
    assert "no scripts and special tokens" in out
    assert "0 rows are copies" in out


def test_ids_of_another_vocabulary_are_refused(tmp_path, tiny_folder, capsys):
    for number, token in enumerate((4000, -5)):
        folder = tmp_path / str(number)
        datasets.Dataset.from_list([{"input_ids": [1, token], "labels": [1, token]}]).save_to_disk(folder)
        assert f"no token {token}" in refusal(capsys, folder, "--model", tiny_folder)


def test_what_convert_writes_is_what_inspect_reads(tmp_path, tiny_folder, capsys):
    rows = [tiny.chat("q", "a"), tiny.chat("question without answer"), tiny.chat("one", "two", "three", "four")]
    file = tiny.write_json(tmp_path / "rows.json", rows)
    words = ["convert", str(file), "-o", str(tmp_path / "out"), "--model", str(tiny_folder), "--max_rejected", "1"]
    assert cli.main(words) == 0
    assert "⟦two<|im_end|>⟧" in shown(capsys, tmp_path / "out", "--source", "rows.json:3")
    out = shown(capsys, tmp_path / "out", "--source", "rows.json:2")
    assert "rows.json:2  rejected, " in out
    assert "question without answer" in out
    assert "3 rows: 2 kept, 0 repaired, 0 truncated, 1 rejected" in out


@pytest.mark.parametrize("words", [["--statistics"], ["--source", "rows.json:2"], ["--source", "rows.json:3"]])
def test_nothing_heavy_is_loaded(dataset, words):
    code = f"""
import sys
from nlpft.cli import main
main(["inspect", {str(dataset)!r}, *{words}])
print("LOADED", *[m for m in ("torch", "transformers", "datasets", "pandas", "matplotlib") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED"
