"""Export: conversations as JSONL with a ledger, all of it or nothing; what has no effect on them is refused."""

import json
import resource
import threading
from dataclasses import replace

import pytest
from tiny import chat, write_json, write_jsonl

from nlpft.data.export import export
from nlpft.data.options import Options
from nlpft.errors import ConfigError, DataError, RunExists
from nlpft.files import locked
from nlpft.formats._fields import Columns

ROWS = [chat("q", "a", id="first"), {"x": 1, "uuid": "second"}, chat("r", "b")]


@pytest.fixture
def rows(tmp_path):
    return str(write_json(tmp_path / "rows.json", ROWS))


def files(folder):
    return sorted(path.name for path in folder.rglob("*"))


def rejected(output):
    return [json.loads(line) for line in output.with_name(f"{output.name}.rejected.jsonl").read_text().splitlines()]


def test_output_ledger_and_rejected_rows_stand_side_by_side_and_nothing_else(rows, tmp_path):
    output = tmp_path / "new" / "out.jsonl"
    summary = export([rows], output, "messages", Options())
    assert files(output.parent) == ["out.jsonl", "out.jsonl.ledger.json", "out.jsonl.rejected.jsonl"]
    assert [json.loads(line)["messages"][1]["content"] for line in output.read_text().splitlines()] == ["a", "b"]
    assert json.loads(output.with_name("out.jsonl.ledger.json").read_text()) == summary
    assert (summary["rows_read"], summary["kept"], summary["rejected"]) == (3, 2, 1)
    assert [row["reason"] for row in rejected(output)] == ["unknown format"]


def test_a_rejected_row_keeps_its_own_name_by_the_known_keys_or_the_users(rows, tmp_path):
    export([rows], tmp_path / "out", "messages", Options())
    assert [row["id"] for row in rejected(tmp_path / "out")] == ["second"]
    export([rows], tmp_path / "own", "messages", Options(columns=Columns(id="x")))
    assert [row["id"] for row in rejected(tmp_path / "own")] == ["1"]


def test_a_row_that_is_no_json_or_no_object_is_rejected_with_its_text(tmp_path):
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps(ROWS[0])}\n{{broken\n17\n")
    export([str(tmp_path / "rows.jsonl")], tmp_path / "out", "alpaca", Options())
    assert [(row["line"], row["id"], row["row"]) for row in rejected(tmp_path / "out")] == [
        (2, "", "{broken"),
        (3, "", 17),
    ]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("splits", ("train=0.5", "eval=0.5")),
        ("weights", ("rows.json=2",)),
        ("duplicates", "exact"),
        ("contamination", ("bench.json",)),
        ("template", "chatml"),
        ("max_length", 100),
        ("too_long", "oldest"),
        ("long_turn", "any"),
        ("prove", "sample"),
        ("workers", 2),
    ],
)
def test_an_option_without_effect_on_conversations_is_refused(rows, tmp_path, option, value):
    with pytest.raises(ConfigError, match=f"--{option} has no effect"):
        export([rows], tmp_path / "out.jsonl", "alpaca", replace(Options(), **{option: value}))
    assert files(tmp_path) == ["rows.json"]


def test_options_that_say_how_rows_are_read_are_followed(tmp_path):
    file = write_json(tmp_path / "rows.json", [{"ask": "q", "say": "a"}])
    options = Options(format="alpaca", columns=Columns(prompt="ask", response="say"), learn="last")
    export([str(file)], tmp_path / "out", "sharegpt", options)
    (row,) = map(json.loads, (tmp_path / "out").read_text().splitlines())
    assert [turn["value"] for turn in row["conversations"]] == ["q", "a"]


def test_a_file_cut_off_is_refused_or_noted_in_the_ledger(tmp_path):
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(ROWS)[:-10])
    with pytest.raises(DataError, match=r"has no end.*--allow_truncated"):
        export([str(file)], tmp_path / "out", "alpaca", Options())
    assert files(tmp_path) == ["rows.json"]
    summary = export([str(file)], tmp_path / "out", "alpaca", Options(allow_truncated=True))
    assert summary["kept"] == 1
    assert "row 3, which begins at byte" in summary["cut_off"][str(file)]
    assert "cut_off" not in export([str(write_jsonl(file, ROWS))], tmp_path / "whole", "alpaca", Options())


def test_where_nothing_can_be_used_nothing_is_written(tmp_path):
    file = write_json(tmp_path / "rows.json", [{"x": 1}, {"y": 2}])
    with pytest.raises(DataError, match="none of 2 rows can be used; nothing was written: 2 x unknown format"):
        export([str(file)], tmp_path / "out", "alpaca", Options())
    assert files(tmp_path) == ["rows.json"]


def test_what_is_there_stays_without_overwrite_and_where_the_new_output_fails(rows, tmp_path):
    output = tmp_path / "out"
    export([rows], output, "messages", Options())
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RunExists, match=r"out: already there.*--overwrite"):
        export([rows], output, "alpaca", Options())
    bad = write_json(tmp_path.parent / f"{tmp_path.name}.json", [{"x": 1}])
    with pytest.raises(DataError, match="none of 1 rows"):
        export([str(bad)], output, "alpaca", Options(), overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    export([rows], output, "alpaca", Options(), overwrite=True)
    assert "messages" not in output.read_text()


@pytest.mark.parametrize(
    ("output", "said"),
    [("folder", "folder: a folder"), ("rows.json/out", "cannot be written"), ("rows.json", "read and written")],
)
def test_a_place_that_is_no_place_for_a_file_is_named(rows, tmp_path, output, said):
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=said):
        export([rows], tmp_path / output, "alpaca", Options(), overwrite=True)
    assert files(tmp_path) == ["folder", "rows.json"]


def test_a_folder_in_the_way_of_the_ledger_leaves_the_output_unwritten(rows, tmp_path):
    (tmp_path / "out.ledger.json").mkdir()
    with pytest.raises(DataError, match=r"out\.ledger\.json: a folder"):
        export([rows], tmp_path / "out", "alpaca", Options())
    assert files(tmp_path) == ["out.ledger.json", "rows.json"]


def test_a_full_disk_leaves_nothing(tmp_path):
    file = write_json(tmp_path / "rows.json", [chat("q", "a" * 10_000)] * 200)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(DataError, match=r"out: cannot be written .*free space"):
            export([str(file)], tmp_path / "out", "alpaca", Options())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files(tmp_path) == ["rows.json"]


def test_two_calls_with_one_output_wait_for_each_other(rows, tmp_path):
    output = tmp_path / "out"
    other = threading.Thread(target=export, args=([rows], output, "alpaca", Options()))
    with locked(output):
        other.start()
        other.join(0.5)
        assert other.is_alive()
        assert not output.exists()
    other.join(10)
    assert output.exists()
