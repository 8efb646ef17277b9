"""Conversions that are cut into parts: the same result however they are worked on, interrupted, or called again."""

import json
import os
import signal
import subprocess
import sys

import datasets
import numpy as np
import pytest
from tiny import chat, write_json, write_jsonl

from nlpft.data import convert as conversion
from nlpft.data import slices, store
from nlpft.data.convert import Options, convert
from nlpft.data.tokenizer import TextTokenizer

COUNT = 400


def rows(count: int = COUNT) -> list[dict]:
    odd = [{"conversations": []}, {"nothing": 1}, chat("q", 17)]
    return [odd[i % 3] if i % 50 == 7 else chat(f"question {i}", f"answer {i} " * (i % 9 + 1)) for i in range(count)]


@pytest.fixture
def small_slices(monkeypatch):
    """Files of some kilobytes are worked on as files of megabytes are."""
    monkeypatch.setattr(slices, "SLICE", 4_000)
    monkeypatch.setattr(slices, "BLOCK", 1_000)
    monkeypatch.setattr(conversion, "SMALL", 0)


@pytest.fixture
def tokenizer(tiny_folder):
    return TextTokenizer(tiny_folder)


def content(folder) -> dict:
    """All of a dataset that should not depend on how it was made."""
    table = store.read(folder)
    ledger = json.loads((folder / "ledger.json").read_text())
    ledger.pop("engine")
    return {
        "rows": table.to_pylist(),
        "ledger": ledger,
        "rejected": (folder / "rejected.jsonl").read_bytes(),
        "shards": [path.read_bytes() for path in sorted(folder.glob("*.arrow"))],
    }


@pytest.mark.parametrize("write", [write_json, write_jsonl])
def test_the_number_of_processes_changes_nothing(tmp_path, tokenizer, small_slices, write):
    file = write(tmp_path / "rows.json", rows())
    for count in (1, 3):
        convert([file], tmp_path / str(count), tokenizer, Options(workers=count))
    one, three = content(tmp_path / "1"), content(tmp_path / "3")
    assert one == three
    assert len(one["shards"]) > 5
    assert [row["source"] for row in one["rows"]] == [f"{file}:{i + 1}" for i in range(COUNT) if i % 50 != 7]
    assert one["ledger"]["rejected"] == 8


def test_slices_change_nothing_but_the_shards(tmp_path, tokenizer, small_slices, monkeypatch):
    file = write_json(tmp_path / "rows.json", rows())
    convert([file], tmp_path / "cut", tokenizer, Options(workers=1))
    monkeypatch.setattr(slices, "SLICE", 8 << 20)
    convert([file], tmp_path / "whole", tokenizer, Options(workers=1))
    cut, whole = content(tmp_path / "cut"), content(tmp_path / "whole")
    assert len(whole.pop("shards")) == 1 < len(cut.pop("shards"))
    for found in (cut, whole):
        found["ledger"].pop("prompts")  # a sample of each slice
    assert cut == whole


def test_the_same_call_again_is_a_hit_and_any_change_a_miss(tmp_path, tokenizer, small_slices):
    file = write_json(tmp_path / "rows.json", rows(20))
    first = convert([file], tmp_path / "out", tokenizer, Options())
    again = convert([file], tmp_path / "out", tokenizer, Options(workers=2))
    assert (first.hit, again.hit) == (False, True)
    assert again.summary == json.loads(json.dumps(first.summary))
    write_json(file, rows(21))
    assert not convert([file], tmp_path / "out", tokenizer, Options(), overwrite=True).hit
    assert store.read(tmp_path / "out").num_rows == 20  # one of 21 is odd
    assert not convert([file], tmp_path / "out", tokenizer, Options(learn="last"), overwrite=True).hit


def test_a_damaged_dataset_is_no_hit(tmp_path, tokenizer):
    file = write_json(tmp_path / "rows.json", rows(20))
    convert([file], tmp_path / "out", tokenizer, Options())
    shard = next((tmp_path / "out").glob("*.arrow"))
    shard.write_bytes(shard.read_bytes()[:-10])
    assert not convert([file], tmp_path / "out", tokenizer, Options(), overwrite=True).hit
    assert store.read(tmp_path / "out").num_rows == 19


KILLED = """
import sys, time
from pathlib import Path
from nlpft.data import convert as conversion, parts, slices
slices.SLICE, slices.BLOCK, conversion.SMALL = 4_000, 1_000, 0
write = parts.write
def slowly(folder, number, *rest):
    write(folder, number, *rest)
    print("part", number, flush=True)
    time.sleep(0.1)
parts.write = slowly
from nlpft.data.tokenizer import TextTokenizer
conversion.convert([sys.argv[1]], Path(sys.argv[2]), TextTokenizer(Path(sys.argv[3])), conversion.Options(workers=1))
"""


def test_after_a_kill_the_next_call_goes_on_and_the_result_is_the_same(tmp_path, tokenizer, tiny_folder, small_slices):
    file, out = write_json(tmp_path / "rows.json", rows()), tmp_path / "killed" / "out"
    command = [sys.executable, "-c", KILLED, str(file), str(out), str(tiny_folder)]
    for parts in (2, 3):  # killed twice
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            done = [process.stdout.readline() for _ in range(parts)]
            process.send_signal(signal.SIGKILL)
        assert done[-1].startswith("part")
        assert not out.exists()
    begun = sorted(path.name for path in out.parent.glob(".out.partial/parts-*/*.json"))
    assert len(begun) >= 5  # two and three, and perhaps one more each
    written = {name: os.stat(next(out.parent.glob(f".out.partial/parts-*/{name}"))).st_mtime_ns for name in begun}
    kept = {}
    original = conversion.work.converter

    def watched(job):
        kept.update({name: os.stat(job.parts / name).st_mtime_ns for name in begun})
        return original(job)

    conversion.work.converter = watched
    try:
        convert([file], out, tokenizer, Options(workers=1))
    finally:
        conversion.work.converter = original
    assert kept == written  # they were not made again
    convert([file], tmp_path / "whole", tokenizer, Options(workers=1))
    assert content(out) == content(tmp_path / "whole")
    assert sorted(path.name for path in out.parent.iterdir()) == ["out"]


def test_what_another_call_has_begun_is_not_taken_up(tmp_path, tokenizer, small_slices):
    file, work = write_json(tmp_path / "rows.json", rows(30)), tmp_path / ".out.partial"
    (work / "parts-of-something-else").mkdir(parents=True)
    (work / "parts-of-something-else" / "000000.json").write_text("{}")
    convert([file], tmp_path / "out", tokenizer, Options(workers=1))
    assert not work.exists()


def test_processes_that_want_the_same_dataset_convert_once(tmp_path, tiny_folder):
    file = write_json(tmp_path / "rows.json", rows(60))
    code = """
import sys, time
from pathlib import Path
from nlpft.data import convert as conversion, parts
write = parts.write
parts.write = lambda *args: (time.sleep(2), write(*args))
from nlpft.data.tokenizer import TextTokenizer
made = conversion.convert([sys.argv[1]], Path(sys.argv[2]), TextTokenizer(Path(sys.argv[3])), conversion.Options())
print("hit" if made.hit else "made")
"""
    command = [sys.executable, "-c", code, str(file), str(tmp_path / "out"), str(tiny_folder)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    answers = [process.communicate(timeout=60) for process in processes]
    assert sorted(out.strip() for out, _ in answers) == ["hit", "hit", "made"], answers
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "rows.json"]


def test_splits_and_weights_are_decided_by_content(tmp_path, tokenizer, small_slices):
    first, second = rows(200), rows(400)[200:]
    options = Options(splits=("train=0.8", "eval=0.2"), workers=2)
    alone, both = write_json(tmp_path / "a.json", first), write_json(tmp_path / "b.json", second)
    convert([alone], tmp_path / "alone", tokenizer, options)
    convert([both, alone], tmp_path / "both", tokenizer, options)
    for split in ("train", "eval"):
        mine, all_ = (set(datasets.load_from_disk(str(tmp_path / n))[split]["source"]) for n in ("alone", "both"))
        assert mine
        assert mine == {source for source in all_ if "a.json" in source}
    weighted = Options(weights=("*a.json=0.5", "*b.json=2"), workers=2)
    made = convert([alone, both], tmp_path / "weighted", tokenizer, weighted)
    sources = datasets.load_from_disk(str(tmp_path / "weighted"))["source"][:]
    counts = {name: sum(name in source for source in sources) for name in ("a.json", "b.json")}
    assert counts["b.json"] == 2 * 196
    assert 60 < counts["a.json"] < 140
    assert made.summary["reasons"]["rejected"]["left out by its weight"] == 196 - counts["a.json"]
    assert made.summary["extra_rows"] == 196


def test_duplicates_and_benchmark_items_are_left_out_with_their_places(tmp_path, tokenizer, small_slices):
    words = "the quick brown fox jumps over the lazy dog and then it sleeps until noon every single day of the week"
    corpus = [*rows(40), *rows(3), chat("say it again", words), chat("say it once again", words), chat(words, "fine")]
    file = write_json(tmp_path / "rows.json", corpus)
    bench = write_jsonl(tmp_path / "bench.jsonl", [{"question": "Never: " + words, "answer": "x"}])
    exact = convert([file], tmp_path / "exact", tokenizer, Options(duplicates="exact", workers=2)).summary
    assert exact["reasons"]["rejected"]["duplicate"] == 3
    told = [json.loads(line) for line in (tmp_path / "exact" / "rejected.jsonl").open()]
    assert [t["detail"] for t in told if t["reason"] == "duplicate"] == [f"of {file}:{n}" for n in (1, 2, 3)]
    clean = convert([file], tmp_path / "clean", tokenizer, Options(contamination=(str(bench),), workers=2)).summary
    assert clean["reasons"]["rejected"]["benchmark item"] == 3
    near = convert([file], tmp_path / "near", tokenizer, Options(duplicates="near", duplicates_threshold=0.6)).summary
    assert near["reasons"]["rejected"]["near duplicate"] >= 1


def test_raw_text_is_split_not_cut(tmp_path, tokenizer):
    text = " ".join(f"word {i}" for i in range(400))
    file = write_jsonl(tmp_path / "rows.jsonl", [{"text": text}, {"text": "short"}])
    summary = convert([file], tmp_path / "out", tokenizer, Options()).summary
    table = store.read(tmp_path / "out")
    ids = table.column("input_ids").to_pylist()
    assert max(map(len, ids)) <= 256
    assert tokenizer.decode(np.concatenate(ids[:-1])) == text + "<|im_end|>"
    assert table.column("labels").to_pylist() == ids
    assert table.column("source").to_pylist() == [f"{file}:1"] * (len(ids) - 1) + [f"{file}:2"]
    assert (summary["rows_read"], summary["kept"], summary["extra_rows"]) == (2, 2, len(ids) - 2)


def test_an_interrupted_file_keeps_its_whole_rows_if_allowed(tmp_path, tokenizer):
    whole = json.dumps(rows(6))
    (tmp_path / "rows.json").write_text(whole[: whole.index("question 4")])
    from nlpft.errors import DataError

    with pytest.raises(DataError, match=r"rows\.json: row 5, which begins at byte \d+, has no end"):
        convert([tmp_path / "rows.json"], tmp_path / "out", tokenizer, Options())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.json"]
    summary = convert([tmp_path / "rows.json"], tmp_path / "out", tokenizer, Options(allow_truncated=True)).summary
    assert summary["kept"] == 4
    assert "row 5" in summary["cut_off"][str(tmp_path / "rows.json")]


def test_a_hit_reads_no_row(tmp_path, tokenizer, small_slices, monkeypatch):
    file = write_json(tmp_path / "rows.json", rows(20))
    convert([file], tmp_path / "out", tokenizer, Options())
    monkeypatch.setattr(conversion, "cut", None)
    monkeypatch.setattr(conversion, "spread", None)
    assert convert([file], tmp_path / "out", tokenizer, Options()).hit
