"""Cutting: any JSON is cut exactly, whatever the blocks; broken JSON costs the broken row; memory does not grow with the file."""

import json
import pickle
import random
import tracemalloc

import numpy as np
import pytest

from nlpft.data import scan, slices
from nlpft.data.read import Bad, read
from nlpft.data.rows import rows
from nlpft.data.slices import CutOff, cut
from nlpft.data.sources import source

WORDS = ["hello", '{"a": 1}', '"', "\\", "\\\\", "[x]", "{", "}", "},", "]", "\n", "é", "中", "😀", "a, b", '"id":']
SHAREGPT = [
    {"id": f"r{n}", "conversations": [{"from": "human", "value": f"q{n} }}, {{"}, {"from": "gpt", "value": '"a" [\\'}]}
    for n in range(9)
]


def text(rng):
    return "".join(rng.choice(WORDS) for _ in range(rng.randrange(6)))


def value(rng, depth=0):
    kind = rng.randrange(8)
    if kind == 0 and depth < 4:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 1 and depth < 4:
        return {text(rng): value(rng, depth + 1) for _ in range(rng.randrange(4))}
    return rng.choice([None, True, -2.5, 10**12]) if kind == 2 else text(rng)


def array(rng):
    kind = rng.randrange(3)
    if kind == 0:
        return [value(rng) for _ in range(rng.randrange(1, 10))]
    if kind == 1:
        return [{"id": text(rng), text(rng): value(rng)} for _ in range(rng.randrange(1, 12))]
    return [
        {"id": n, "items": [{"id": value(rng)} for _ in range(rng.randrange(4))]} for n in range(rng.randrange(1, 9))
    ]


def small(monkeypatch, rng):
    """Blocks and slices so small that every edge is met."""
    monkeypatch.setattr(scan, "CHUNK", rng.choice([1, 2, 3, 7, 64, 1 << 18]))
    monkeypatch.setattr(scan, "FIRST_CHUNK", rng.choice([1, 2, 5, 4096]))
    monkeypatch.setattr(slices, "BLOCK", rng.choice([1, 2, 5, 17, 100, 1 << 20]))
    monkeypatch.setattr(slices, "SLICE", rng.choice([1, 10, 50, 1 << 20]))


@pytest.mark.parametrize("seed", range(120))
def test_any_array_is_cut_exactly_whatever_the_blocks(tmp_path, monkeypatch, seed):
    rng = random.Random(seed)
    small(monkeypatch, rng)
    expected = array(rng)
    layout = rng.choice([None, (",", ":"), (" ,  ", " : ")])
    path = tmp_path / "rows.json"
    path.write_text(
        json.dumps(expected, indent=rng.choice([None, None, 1]), separators=layout, ensure_ascii=seed % 2 == 0)
    )
    got = list(read(path))
    assert [r.data for r in got] == expected
    assert [r.source for r in got] == [f"{path}:{n}" for n in range(1, len(expected) + 1)]
    raw = path.read_bytes()
    assert [json.JSONDecoder().raw_decode(raw[r.offset :].decode())[0] for r in got] == expected


@pytest.mark.parametrize("seed", range(40))
def test_any_lines_are_cut_exactly_whatever_the_blocks(tmp_path, monkeypatch, seed):
    rng = random.Random(seed)
    small(monkeypatch, rng)
    expected = [{"id": text(rng), "x": value(rng)} for _ in range(rng.randrange(1, 12))]
    path = tmp_path / "rows.json"
    path.write_text("\n".join(map(json.dumps, expected)) + "\n" * (seed % 3))
    got = list(read(path))
    assert [r.data for r in got] == expected
    assert [r.source for r in got] == [f"{path}:{n}" for n in range(1, len(expected) + 1)]


@pytest.mark.parametrize("seed", range(40))
def test_quotes_behind_backslashes_are_told_apart(seed):
    rng = random.Random(seed)
    raw = bytes(rng.choice(b'"\\\\x') for _ in range(60))
    expected, escaped = [], False
    for i, byte in enumerate(raw):
        if byte == ord('"') and not escaped:
            expected.append(i)
        escaped = byte == ord("\\") and not escaped
    assert scan.unescaped_quotes(np.frombuffer(raw, np.uint8)).tolist() == expected


def dumped(broken, number, indent=None):
    """An array one of whose rows is `broken`, a function of the row's text."""
    parts = [json.dumps(row, indent=indent) for row in SHAREGPT]
    parts[number] = broken(parts[number])
    return "[" + ("\n" if indent else "") + (",\n" if indent else ", ").join(parts) + "]"


DAMAGE = {
    "no closing bracket": lambda row: row[:-1],
    "no closing brackets": lambda row: row[:-3],
    "no opening bracket of the list": lambda row: row.replace("[", "", 1),
    "one bracket too many": lambda row: row + "}",
    "no closing quote": lambda row: row.replace('"human"', '"human'),
    "no opening quote": lambda row: row.replace('"human"', 'human"'),
    "a quote too many": lambda row: row.replace("human", 'hu"man'),
    "cut in the middle of a text": lambda row: row[: row.index("q") + 1],
    "a comma missing": lambda row: row.replace('", "', '" "', 1).replace('",\n', '"\n', 1),
    "no JSON value": lambda row: row.replace('"human"', "human"),
    "a closing backslash": lambda row: row.replace('"human"', '"human\\"'),
}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("number", [0, 4, 7])
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("sizes", [(4 << 20, 8 << 20), (4 << 20, 150), (400, 300)], ids=str)
def test_a_broken_row_costs_itself_only(tmp_path, monkeypatch, damage, number, indent, sizes):
    if damage == "no closing brackets" and number == 0 and not indent:
        pytest.skip("nothing tells a first row that swallows the others from a large one: reported as cut off")
    monkeypatch.setattr(slices, "BLOCK", sizes[0])
    monkeypatch.setattr(slices, "SLICE", sizes[1])
    path = tmp_path / "rows.json"
    path.write_text(dumped(DAMAGE[damage], number, indent))
    got = list(read(path))
    good = [r.data for r in got if not isinstance(r, Bad) and isinstance(r.data, dict) and "conversations" in r.data]
    assert [row for row in SHAREGPT if row not in good] == (
        [] if damage == "one bracket too many" else [SHAREGPT[number]]
    )
    assert any(isinstance(r, Bad) for r in got)


def test_rows_behind_what_is_dropped_move_up():
    data = bytearray(b'[{"a": 1}, {"a": 2}, {"a": 3}]')
    found = scan.Scan(scan.marker(bytes(data)))
    found.feed(data, last=True)
    before = found.edges()
    found.drop(9)
    assert found.edges().tolist() == (before[1:] - [9, 9, 0]).tolist()
    assert found.hits().tolist() == (before[1:, 0] - 9).tolist()


def test_pieces_of_one_broken_row_are_one_bad_row(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(dumped(lambda row: row.replace('{"id": ', '{"id": oops}, nor: ', 1), 4))
    got = list(read(path))
    assert [r.data for r in got if not isinstance(r, Bad)] == [*SHAREGPT[:4], *SHAREGPT[5:]]
    assert [r.source for r in got if isinstance(r, Bad)] == [f"{path}:5"]


def test_two_broken_rows_that_make_up_for_each_other_swallow_none_between(tmp_path):
    path = tmp_path / "rows.json"
    text = dumped(DAMAGE["no closing bracket"], 3)
    path.write_text(text.replace(json.dumps(SHAREGPT[5]), json.dumps(SHAREGPT[5]) + "}"))
    got = [r.data for r in read(path) if not isinstance(r, Bad)]
    assert got == [row for row in SHAREGPT if row != SHAREGPT[3]]


def test_objects_within_a_row_that_is_cut_off_are_no_rows(tmp_path):
    whole = {"id": 1, "items": [{"id": 2}]}
    path = tmp_path / "rows.json"
    for rows_before in ([], [whole]):
        path.write_text(json.dumps([*rows_before, {"id": 3, "items": [{"id": 4}, {"id": 5}]}])[:-5])
        cut_off = CutOff()
        assert [r.data for r in read(path, cut_off=cut_off)] == rows_before
        assert "has no end" in cut_off.places[str(path)]


def test_a_number_at_the_edge_of_a_block_is_not_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(slices, "SLICE", 3)
    path = tmp_path / "rows.json"
    path.write_text("[[0], 7, [12], 12345, [6]]")
    for size in range(1, 20):
        monkeypatch.setattr(slices, "BLOCK", size)
        assert [r.data for r in read(path)] == [[0], 7, [12], 12345, [6]]


def test_what_is_lost_is_given_with_its_place(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(dumped(DAMAGE["no closing bracket"], 4))
    got = list(read(path))
    bad = got[4]
    assert isinstance(bad, Bad)
    assert (len(got), bad.source, bad.text) == (9, f"{path}:5", json.dumps(SHAREGPT[4])[:-1])
    assert path.read_bytes()[bad.offset :].startswith(bad.text.encode())


@pytest.mark.parametrize("seed", range(60))
def test_no_byte_of_a_broken_array_is_lost_silently(tmp_path, monkeypatch, seed):
    rng = random.Random(seed)
    raw = bytearray(json.dumps(SHAREGPT, indent=rng.choice([None, 2])).encode())
    for _ in range(rng.randrange(1, 4)):
        raw[rng.randrange(1, len(raw))] = rng.choice(b'{}[]",:\\x')
    monkeypatch.setattr(slices, "SLICE", rng.choice([200, 8 << 20]))
    path = tmp_path / "rows.json"
    path.write_bytes(raw)
    cut_off = CutOff()
    left = bytearray(raw)
    for piece in cut(source(path), cut_off):
        for start, end, _ in piece.edges.tolist():
            left[piece.offset + start : piece.offset + end] = b" " * (end - start)
    assert not left.strip(b" \n[],") or cut_off.places


def test_values_that_are_no_objects_are_rows_in_their_place(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('[null, {"a": 1}, "x,]", 3, [4], {"a": 5}, -6]')
    assert [r.data for r in read(path)] == [None, {"a": 1}, "x,]", 3, [4], {"a": 5}, -6]


def test_slices_can_be_sent_to_other_processes_and_carry_their_place(tmp_path, monkeypatch):
    monkeypatch.setattr(slices, "SLICE", 100)
    monkeypatch.setattr(slices, "BLOCK", 100)
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(SHAREGPT))
    pieces = list(cut(source(path), CutOff()))
    assert len(pieces) > 3
    assert all(isinstance(piece.data, tuple) for piece in pieces)
    read_back = [rows(pickle.loads(pickle.dumps(piece))).records for piece in reversed(pieces)]
    assert [r.data for part in reversed(read_back) for r in part] == SHAREGPT
    assert [piece.number for piece in pieces] == [
        int(part[0].source.rpartition(":")[2]) for part in reversed(read_back)
    ]
    assert sum(piece.size for piece in pieces) == path.stat().st_size


@pytest.mark.parametrize("kind", ["array", "lines", "text", "tsv"])
def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(slices, "SLICE", 50_000)
    monkeypatch.setattr(slices, "BLOCK", 25_000)
    line = json.dumps({"id": "r", "text": "word " * 40}) if kind in ("array", "lines") else "word\tword " * 20
    join = {"array": ",\n", "lines": "\n", "text": "\n\n", "tsv": "\n"}[kind]
    peaks = []
    for count in (2_000, 20_000):
        path = tmp_path / f"rows.{kind if kind == 'tsv' else 'txt'}"
        whole = join.join([line] * count)
        path.write_text(f"[{whole}]" if kind == "array" else whole)
        del whole
        found = source(path)
        tracemalloc.start()
        total = sum(len(rows(piece).records) for piece in cut(found, CutOff()))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert (total, found.kind) == (count, kind)
    assert peaks[1] < 1.2 * peaks[0]


def test_paragraphs_are_the_documents_of_a_text(tmp_path, monkeypatch):
    content = "One\n line two\n\n\n  \nTwo {\r\n\r\nThree\n"
    path = tmp_path / "rows.txt"
    path.write_bytes(content.encode())
    expected = [("One\n line two", 1), ("Two {", 6), ("Three", 8)]
    for size in (1, 2, 3, 5, 8, 100):
        monkeypatch.setattr(slices, "SLICE", size)
        monkeypatch.setattr(slices, "BLOCK", size)
        got = list(read(path))
        assert [(r.data["text"], int(r.source.rpartition(":")[2])) for r in got] == expected
        assert all(content[r.offset :].startswith(r.data["text"]) for r in got)
