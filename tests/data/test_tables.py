"""Tables: parquet as JSON would give it; CSV by its rules; a stray quote costs no other row."""

import csv
import datetime
import decimal
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nlpft.data import slices
from nlpft.data.read import Bad, read
from nlpft.data.slices import CutOff, cut
from nlpft.data.sources import source
from nlpft.errors import DataError

NESTED = [
    {
        "id": "é",
        "turns": [{"from": "human", "value": "q"}, {"from": "gpt", "value": None}],
        "n": 1,
        "more": {"x": [1.5]},
    },
    {"id": None, "turns": [], "n": None, "more": None},
    {"id": "c", "turns": None, "n": 3, "more": {"x": None}},
]


def table(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text.encode())
    return list(read(path)), path


def written(rows, **options):
    out = io.StringIO(newline="")
    csv.writer(out, **options).writerows(rows)
    return out.getvalue()


def test_parquet_rows_are_those_of_json(tmp_path):
    path = tmp_path / "rows.bin"
    pq.write_table(pa.Table.from_pylist(NESTED * 5), path, row_group_size=4)
    got = list(read(path))
    assert [r.data for r in got] == NESTED * 5
    assert [r.source for r in got] == [f"{path}:{n}" for n in range(1, 16)]


def test_parquet_is_read_in_pieces_of_about_the_slice_size(tmp_path, monkeypatch):
    monkeypatch.setattr(slices, "SLICE", 10_000)
    path = tmp_path / "rows.parquet"
    rows = [{"text": f"{n} " * 100} for n in range(2000)]
    pq.write_table(pa.Table.from_pylist(rows), path, compression="none", use_dictionary=False)
    pieces = list(cut(source(path), CutOff()))
    assert 20 < len(pieces) < 200
    assert max(piece.size for piece in pieces) < 30_000
    assert [r.data for r in read(path)] == rows


def test_parquet_values_that_json_lacks_become_text(tmp_path):
    path = tmp_path / "rows.parquet"
    columns = {
        "time": pa.array([datetime.date(2024, 1, 2), None]),
        "price": pa.array([decimal.Decimal("1.50"), None]),
        "bytes": pa.array([b"a\xff", None]),
        "kind": pa.array(["x", "y"]).dictionary_encode(),
        "map": pa.array([[("k", "v")], None], pa.map_(pa.string(), pa.string())),
        "pair": pa.array([[1, 2], None], pa.list_(pa.int8(), 2)),
    }
    pq.write_table(pa.table(columns), path)
    first, second = (r.data for r in read(path))
    assert first == {
        "time": "2024-01-02",
        "price": "1.50",
        "bytes": "a\\xff",
        "kind": "x",
        "map": {"k": "v"},
        "pair": [1, 2],
    }
    assert second == {"time": None, "price": None, "bytes": None, "kind": "y", "map": None, "pair": None}


def test_a_damaged_parquet_file_is_named(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(NESTED), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"rows\.parquet: not a whole parquet file"):
        list(read(path))


@pytest.mark.parametrize("size", [1, 7, 30, 1 << 20])
@pytest.mark.parametrize(("name", "delimiter"), [("rows.csv", ","), ("rows.tsv", "\t")])
def test_what_csv_writes_is_read_back(tmp_path, monkeypatch, size, name, delimiter):
    monkeypatch.setattr(slices, "SLICE", size)
    monkeypatch.setattr(slices, "BLOCK", size)
    rows = [["q, 1", 'say "hi"'], ["two\nlines\r\nand, a comma", "é\u2028中"], ["", "x" * 300], ['"', '"\n"']]
    text = "\ufeff" + written([["instruction", "output"], *rows], delimiter=delimiter)
    got, path = table(tmp_path, name, text)
    assert [list(r.data.values()) for r in got] == rows
    assert {tuple(r.data) for r in got} == {("instruction", "output")}
    assert [r.source for r in got] == [f"{path}:{n}" for n in (2, 3, 6, 7)]
    assert text.encode()[got[2].offset :].startswith(f"{delimiter}xxx".encode())


def test_a_field_may_hold_a_whole_document(tmp_path):
    got, _ = table(tmp_path, "rows.csv", written([["text", "n"], ["x\n" * 200_000, "1"], ["y", "2"]]))
    assert [len(r.data["text"]) for r in got] == [400_000, 1]


def test_a_file_without_a_header_has_numbered_columns(tmp_path):
    got, path = table(tmp_path, "rows.csv", '"3","Fears for pension","A, b"\n"4","The race","C"\n')
    assert [r.data for r in got] == [
        {"0": "3", "1": "Fears for pension", "2": "A, b"},
        {"0": "4", "1": "The race", "2": "C"},
    ]
    got, path = table(tmp_path, "rows.tsv", "ham\tOk lar\nspam\tFree entry\nham\tU dun say\n")
    assert [(r.data["0"], r.source) for r in got] == [("ham", f"{path}:1"), ("spam", f"{path}:2"), ("ham", f"{path}:3")]


@pytest.mark.parametrize(
    "stray",
    ['"Hello,\tx', '"Hello," he said\tx', 'a "quoted" word\tx', '5" long\tx', 'x\t"no end', '"""\tx', 'x\tends in "'],
)
def test_a_stray_quote_in_a_tsv_swallows_no_row(tmp_path, stray):
    rows = ["a\tb", "c\td", stray, "e\tf", 'g\th "', 'i\t"j', "k\tl"]
    got, path = table(tmp_path, "rows.tsv", "\n".join(["label\ttext", *rows]) + "\n")
    assert ["\t".join(r.data.values()) for r in got] == rows
    assert [r.source for r in got] == [f"{path}:{n}" for n in range(2, 9)]


@pytest.mark.parametrize("stray", ['"Hello, x', 'x,"no end', '"a" b,c', 'x"y,z'])
def test_a_stray_quote_in_a_csv_costs_itself_only(tmp_path, stray):
    got, path = table(tmp_path, "rows.csv", f'q,a\n1,2\n{stray}\n3,4\n5,"6"\n7,8\n')
    assert [list(r.data.values()) for r in got if r.source != f"{path}:3"] == [
        ["1", "2"],
        ["3", "4"],
        ["5", "6"],
        ["7", "8"],
    ]
    assert [r.source for r in got] == [f"{path}:{n}" for n in range(2, 7)]


def test_a_row_of_another_width_and_one_of_another_encoding_are_bad(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b"q,a\n1,2\n3\n4,5,6\n\n7,\xe9\n8,9\n")
    got = list(read(path))
    assert [r.error.reason if isinstance(r, Bad) else r.data["a"] for r in got] == [
        "2",
        "row has another number of fields than the table",
        "row has another number of fields than the table",
        "row is not UTF-8",
        "9",
    ]
    assert [r.source.rpartition(":")[2] for r in got] == ["2", "3", "4", "6", "7"]
    assert (got[3].text, got[3].offset) == ("7,\\xe9\n", 17)
