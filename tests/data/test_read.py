"""Reading a file from end to end: rows know their place, bad ones cost themselves, bad files are named."""

import gzip
import json
import os

import pytest
import zstandard

from nlpft.data import slices, stream
from nlpft.data.read import Bad, read
from nlpft.data.slices import CutOff
from nlpft.data.sources import source
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
        "\ufeff" + "\n".join(map(json.dumps, ROWS)),
    ],
)
@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.txt", "rows.csv", "rows"])
def test_content_decides_not_the_ending(tmp_path, text, name):
    path = tmp_path / name
    path.write_bytes(text.encode())
    got = list(read(path))
    assert [r.data for r in got] == ROWS
    assert [r.source for r in got] == [f"{path}:{n}" for n in (1, 2, 3)]
    raw = path.read_bytes()
    assert [raw[r.offset : r.offset + 5] for r in got] == [b'{"a":' if raw[-2:] != b"\n]" else b"{\n   "] * 3


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
@pytest.mark.parametrize("text", [json.dumps(ROWS), "\n".join(map(json.dumps, ROWS))])
def test_packed_files_hold_the_same_rows(tmp_path, pack, text):
    path = tmp_path / "rows.bin"
    path.write_bytes(pack(text[:9].encode()) + pack(text[9:].encode()))  # several members, as `cat` makes them
    got = list(read(path))
    assert [(r.data, r.source) for r in got] == [(row, f"{path}:{n}") for n, row in enumerate(ROWS, 1)]
    assert [text[r.offset :][:5] for r in got] == ['{"a":'] * 3


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
@pytest.mark.parametrize("lines", [True, False])
def test_a_packed_file_that_is_cut_off_gives_its_complete_rows_and_then_an_error(tmp_path, pack, lines):
    rows = [{"n": n, "noise": os.urandom(40).hex()} for n in range(5000)]
    text = "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows)
    path = tmp_path / "rows.json.gz"
    packed = pack(text.encode())
    path.write_bytes(packed[: len(packed) // 2])
    cut_off = CutOff()
    got = list(read(path, cut_off=cut_off))
    assert [r.data for r in got] == rows[: len(got)]
    assert str(path) in cut_off.places
    with pytest.raises(DataError, match=r"end too early.*byte .*--allow_truncated"):
        list(read(path))


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_a_decompression_bomb_is_refused(tmp_path, pack, monkeypatch):
    monkeypatch.setattr(stream, "SAFE", 1 << 20)
    path = tmp_path / "bomb.gz"
    path.write_bytes(pack(b'[{"a": "' + b" " * (8 << 20) + b'"}]'))
    with pytest.raises(DataError, match=r"decompression bomb.*unpack it yourself"):
        list(read(path))


def test_blank_lines_count_as_lines_but_not_as_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('\n{"a": 1}\n\n{"a": 2}\n')
    assert [r.source for r in read(path)] == [f"{path}:2", f"{path}:4"]


def test_one_bad_line_costs_one_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": \n{"a": 3}\n')
    good, bad, last = read(path)
    assert (good.data, last.data) == ({"a": 1}, {"a": 3})
    assert isinstance(bad, Bad)
    assert (bad.source, bad.text, bad.offset, bad.error.reason) == (f"{path}:2", '{"a": ', 9, "row is not JSON")


@pytest.mark.parametrize("first", ['{"a": ', "oops", '{"a": 1}}'])
def test_a_bad_first_line_costs_one_row(tmp_path, first):
    path = tmp_path / "rows.jsonl"
    path.write_text(first + '\n{"a": 2}\n{"a": 3}\n{"a": 4}')
    bad, *good = read(path)
    assert isinstance(bad, Bad)
    assert [r.data for r in good] == [{"a": 2}, {"a": 3}, {"a": 4}]


@pytest.mark.parametrize("key", ["data", "train"])
@pytest.mark.parametrize("indent", [None, 1])
def test_rows_wrapped_in_an_object_are_the_rows_and_the_source_says_so(tmp_path, key, indent):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"version": [1, {"é": "]"}], key: ROWS, "note": "x"}, indent=indent, ensure_ascii=False))
    assert source(path).key == key
    assert [(r.data, r.source) for r in read(path)] == [(row, f"{path}:{n}") for n, row in enumerate(ROWS, 1)]


def test_a_second_list_of_rows_in_the_object_is_not_left_out_silently(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"train": ROWS, "test": ROWS}))
    with pytest.raises(DataError, match="more rows behind those of 'train'"):
        list(read(path))


def test_a_record_over_several_lines_is_a_record_not_a_wrapper(tmp_path):
    record = {"id": 1, "conversations": [{"from": "human", "value": "q"}]}
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(record, indent=2))
    assert [r.data for r in read(path)] == [record]
    path.write_text(json.dumps(record, indent=2) + "\n" + json.dumps(ROWS[0], indent=2))
    assert [r.data for r in read(path)] == [record, ROWS[0]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"  \n ", "empty"),
        (b"hello\nworld\n", "1: not JSON.*--format text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git LFS pointer.*git lfs pull"),
        (b"\x80\x04\x95pickle", "pickle, which nlpft never opens"),
        (b"PK\x03\x04....", "zip archive; unpack"),
        (b"\x1f\x8b\x08\x00", "the compressed data end too early"),
        ('[{"a": 1}]'.encode("utf-16"), "UTF-16.*iconv"),
        ("".join(f'{{"a": "größer {n}"}}\n' for n in range(9)).encode("latin-1"), "perhaps Latin-1.*iconv"),
        (json.dumps([{"a": f"größer {n}"} for n in range(9)], ensure_ascii=False).encode("latin-1"), "perhaps Latin-1"),
        (b"PAR1 not parquet", "not a whole parquet file"),
        (b"<html>\n<body>404</body>", "markup"),
    ],
)
def test_a_file_that_is_no_corpus_is_named(tmp_path, content, said):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"(?s){said}") as error:
        list(read(path))
    assert str(path) in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.json: no such file"):
        read(tmp_path / "gone.json")


@pytest.mark.parametrize("lines", [True, False])
def test_invalid_utf8_costs_one_row(tmp_path, lines):
    rows = [json.dumps({"a": f"é {n}"}, ensure_ascii=False).encode() for n in range(50)]
    rows[20] = b'{"a": "\xe9"}'
    path = tmp_path / "rows.json"
    path.write_bytes(b"\n".join(rows) if lines else b"[" + b",".join(rows) + b"]")
    got = list(read(path))
    assert [i for i, r in enumerate(got) if isinstance(r, Bad)] == [20]
    assert got[20].error.reason == "row is not UTF-8"
    assert (got[20].source, got[20].text, len(got)) == (f"{path}:21", '{"a": "\\xe9"}', 50)


@pytest.mark.parametrize(
    ("end", "place"),
    [
        ('{"a": ', 23),
        ('{"a": {"b": [1', 23),
        ('{"a": "x', 23),
        ('{"a": "\\', 23),
        ('{"a": "\\u12', 23),
        ('{"a": tr', 23),
        ('{"a": 1}', 31),
        ("", 23),
        ('"x', 23),
        ("nul", 23),
    ],
)
def test_a_truncated_array_gives_its_complete_rows_and_then_the_byte_offset(tmp_path, end, place):
    start = '[{"a": 1}, {"a": "]"}, '
    path = tmp_path / "rows.json"
    path.write_text(start + end)
    complete = [{"a": 1}, {"a": "]"}] + [{"a": 1}] * (end == '{"a": 1}')
    got = read(path)
    assert [next(got).data for _ in complete] == complete
    with pytest.raises(DataError, match=r"has no end.*--allow_truncated") as error:
        next(got)
    assert f"byte {place}" in str(error.value)
    cut_off = CutOff()
    assert [r.data for r in read(path, cut_off=cut_off)] == complete
    assert list(cut_off.places) == [str(path)]


def test_a_50_mb_message_and_100_000_turns_are_rows_like_others(tmp_path):
    long, many = {"a": "x" * 50_000_000}, {"a": [{"from": "gpt", "value": "y"}] * 100_000}
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([ROWS[0], long, ROWS[1], many, ROWS[2]]))
    assert [r.data for r in read(path)] == [ROWS[0], long, ROWS[1], many, ROWS[2]]


def test_a_row_without_an_end_within_reason_is_an_error_not_all_of_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(slices, "LARGEST_ROW", 1000)
    monkeypatch.setattr(slices, "SLICE", 100)
    monkeypatch.setattr(slices, "BLOCK", 100)
    path = tmp_path / "rows.json"
    path.write_text('[{"a": 1}, {"a": "' + "x" * 5000)
    with pytest.raises(DataError, match="row at byte 9 is larger"):
        list(read(path))
