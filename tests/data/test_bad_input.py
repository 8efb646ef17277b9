"""Bad input, one kind at a time among good rows: it costs itself only, is told of with its place, and ends in no traceback."""

import errno
import gzip
import json
import pickle

import pytest
from tiny import chat, write_json, write_jsonl

from nlpft import cli
from nlpft.data import parts, store

GOOD = [chat(f"question {i}", f"answer {i}") for i in range(40)]
LINES = [json.dumps(row) for row in GOOD]


def array(extra: str) -> str:
    """The good rows and one more, in the middle of them."""
    return "[" + ",".join([*LINES[:20], extra, *LINES[20:]]) + "]"


def turns(*pairs: tuple[str, object]) -> str:
    return json.dumps({"conversations": [{"from": role, "value": value} for role, value in pairs]})


def convert(tmp_path, tiny_folder, capsys, *more: str) -> tuple[int, str, dict]:
    """Exit code, what was printed to stderr, and the ledger."""
    (file,) = (path for path in tmp_path.iterdir() if path.name.startswith("rows"))
    code = cli.main(["convert", str(file), "-o", str(tmp_path / "out"), "-m", str(tiny_folder), *more])
    said = capsys.readouterr()
    assert "Traceback" not in said.err + said.out
    ledger = tmp_path / "out" / "ledger.json"
    return code, said.err, json.loads(ledger.read_text()) if ledger.is_file() else {}


REJECTED = {
    "a number for a text": (turns(("human", "q"), ("gpt", 17)), "not text"),
    "null for a text": (turns(("human", "q"), ("gpt", None)), "not text"),
    "an object for a text": (turns(("human", "q"), ("gpt", {"a": 1})), "not text"),
    "an empty conversation": (turns(), "empty conversation"),
    "an answer of an unknown role only": (turns(("human", "q"), ("critic", "a")), "unknown role"),
    "half a surrogate pair": (turns(("human", "q \ud800"), ("gpt", "a")), "not valid Unicode"),
    "a key twice": ('{"conversations": [], "conversations": []}', "a key stands twice in an object"),
    "deep nesting": ('{"conversations": ' + "[" * 5_000 + "]" * 5_000 + "}", "row is nested too deeply"),
    "a broken row": ('{"conversations": [{"from": "human", "value": }]}', "row is not JSON"),
    "a quote that never ends": ('{"conversations": [{"from": "human", "value": "q}]}', "row is not JSON"),
    "a bracket too many": ('{"conversations": [[{"from": "human", "value": "q"}]}', "row is not JSON"),
}


@pytest.mark.parametrize("kind", REJECTED)
def test_a_bad_row_costs_itself_only(kind, tmp_path, tiny_folder, capsys):
    row, reason = REJECTED[kind]
    (tmp_path / "rows.json").write_text(array(row))
    code, _, ledger = convert(tmp_path, tiny_folder, capsys)
    assert (code, ledger["kept"], ledger["reasons"]["rejected"]) == (0, 40, {reason: 1})
    told = json.loads((tmp_path / "out" / "rejected.jsonl").read_text())
    assert told["source"].endswith("rows.json:21")
    assert told["offset"] == array(row).index(LINES[19]) + len(LINES[19]) + 1
    assert told["remedy"]


KEPT = {
    "two system turns": turns(("system", "s"), ("system", "t"), ("human", "q"), ("gpt", "a")),
    "NUL bytes": turns(("human", "q\0q"), ("gpt", "a\0a")),
    "control characters": turns(("human", "q\x04\x1b[0m"), ("gpt", "a\x13")),
    "a long message": turns(("human", "word " * 400_000), ("gpt", "answer")),
    "thousands of turns": turns(*[("human", "q"), ("gpt", "a")] * 1_000),
}


@pytest.mark.parametrize("kind", KEPT)
def test_an_odd_row_is_mended_or_taken_as_it_is(kind, tmp_path, tiny_folder, capsys):
    (tmp_path / "rows.json").write_text(array(KEPT[kind]))
    code, _, ledger = convert(tmp_path, tiny_folder, capsys)
    assert (code, ledger["rows_read"], ledger["rejected"]) == (0, 41, 0)


LINE_BY_LINE = {
    "one bad line": ("\n".join([*LINES[:20], '{"conversations": [', *LINES[20:]]).encode(), 1),
    "invalid UTF-8": ("\n".join(LINES).encode() + b'\n{"conversations": "\xff\xfe"}\n', 1),
    "a byte order mark and CRLF": (b"\xef\xbb\xbf" + "\r\n".join(LINES).encode(), 0),
    "blank lines": ("\n\n\n".join(LINES).encode() + b"\n \n", 0),
}


@pytest.mark.parametrize("kind", LINE_BY_LINE)
def test_lines_are_read_one_by_one(kind, tmp_path, tiny_folder, capsys):
    data, rejected = LINE_BY_LINE[kind]
    (tmp_path / "rows.jsonl").write_bytes(data)
    code, _, ledger = convert(tmp_path, tiny_folder, capsys)
    assert (code, ledger["kept"], ledger["rejected"]) == (0, 40, rejected)


REFUSED = {
    "cut off": (array(LINES[0])[:-30].encode(), "has no end"),
    "a git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", "git LFS pointer"),
    "a pickle": (pickle.dumps(GOOD), "pickle"),
    "Latin-1": ("\n".join(['{"value": "été"}'] * 40).encode("latin-1"), "not UTF-8"),
    "nothing": (b"", "empty"),
    "a web page": (b"<!doctype html><html></html>", "not JSON"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_that_cannot_be_read_is_refused_whole(kind, tmp_path, tiny_folder, capsys):
    data, said = REFUSED[kind]
    (tmp_path / "rows.jsonl").write_bytes(data)
    code, error, _ = convert(tmp_path, tiny_folder, capsys)
    assert code == 2
    assert said in error
    assert "rows.jsonl" in error
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_zip_bomb_is_not_unpacked_to_its_end(tmp_path, tiny_folder, capsys):
    row = LINES[0].encode() + b" " * 1_000_000 + b"\n"  # blanks: a long text would be tokenized before the limit is met
    with gzip.open(tmp_path / "rows.jsonl.gz", "wb", 1) as file:
        for _ in range(80):
            file.write(row)
    code, error, _ = convert(tmp_path, tiny_folder, capsys)
    assert code == 2
    assert "rows.jsonl.gz" in error
    assert "unpack" in error


def test_a_full_disk_keeps_what_is_finished(tmp_path, tiny_folder, capsys, monkeypatch):
    write_jsonl(tmp_path / "rows.jsonl", GOOD)

    def full(path, batches):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store, "write_part", full)
    code, error, _ = convert(tmp_path, tiny_folder, capsys)
    assert code == 2
    assert "no space left" in error
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    assert convert(tmp_path, tiny_folder, capsys)[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "rows.jsonl"]


def test_ctrl_c_ends_at_once_and_the_next_call_goes_on(tmp_path, tiny_folder, capsys, monkeypatch):
    write_json(tmp_path / "rows.json", GOOD)
    monkeypatch.setattr(parts, "write", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    code, error, _ = convert(tmp_path, tiny_folder, capsys)
    assert (code, "interrupted" in error) == (130, True)
    monkeypatch.undo()
    code, _, ledger = convert(tmp_path, tiny_folder, capsys)
    assert (code, ledger["kept"]) == (0, 40)


def test_too_many_rejected_rows_are_exit_code_1_after_writing(tmp_path, tiny_folder, capsys):
    write_json(tmp_path / "rows.json", [*GOOD, *[{"x": 1}] * 3])
    code, error, ledger = convert(tmp_path, tiny_folder, capsys)
    assert code == 1
    assert "7.0% of the rows were rejected" in error
    assert (ledger["kept"], ledger["rejected"]) == (40, 3)
    assert convert(tmp_path, tiny_folder, capsys, "--max_rejected", "0.1")[0] == 0
