"""Reading: rows know their place, bad lines are kept apart, bad files are named."""

import json

import pytest

from nlpft.data.read import Bad, read
from nlpft.errors import DataError

ROWS = [{"a": 1}, {"a": "zwei\n"}, {"a": [3]}]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        "\n".join(map(json.dumps, ROWS)),
        "\r\n".join(map(json.dumps, ROWS)) + "\r\n",
        "\ufeff" + json.dumps(ROWS),
    ],
)
@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.txt"])
def test_content_decides_not_the_ending(tmp_path, text, name):
    path = tmp_path / name
    path.write_bytes(text.encode())
    assert [r.data for r in read(path)] == ROWS
    assert [r.source for r in read(path)] == [f"{path}:{n}" for n in (1, 2, 3)]


def test_blank_lines_count_as_lines_but_not_as_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2}\n')
    assert [r.source for r in read(path)] == [f"{path}:1", f"{path}:3"]


def test_a_bad_first_line_costs_one_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": \n{"a": 2}\n')
    bad, good = read(path)
    assert isinstance(bad, Bad)
    assert good.data == {"a": 2}


def test_one_bad_line_costs_one_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": \n{"a": 3}\n')
    good, bad, last = read(path)
    assert (good.data, last.data) == ({"a": 1}, {"a": 3})
    assert isinstance(bad, Bad)
    assert (bad.source, bad.text) == (f"{path}:2", '{"a": ')


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"  \n ", "empty"),
        (b"hello\nworld\n", "1: not JSON"),
        (b'[{"a": 1}, {"a": ', "not a whole JSON array"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not JSON"),
        (b"\x80\x04\x95pickle", "not JSON"),
    ],
)
def test_a_file_that_is_no_corpus_is_named(tmp_path, content, said):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as error:
        list(read(path))
    assert str(path) in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.json: no such file"):
        read(tmp_path / "gone.json")
