"""What became of a row is found by its place, whatever the dataset says of itself."""

import json

import on_disk
import pyarrow as pa
import pytest
from on_disk import Chat, refused

from nlpft.data import provenance, store
from nlpft.data.provenance import Reason
from nlpft.errors import DataError

ROWS = [
    Chat("d/a.json:1", ("q", "a"), ("blank turn dropped",)),
    Chat("d/a.json:11", ("q", "a"), ("BOM", "blank turn dropped")),
    Chat("e/a.json:1", ("q", "a"), ("BOM", "truncated: 7 tokens lost")),
    Chat("e/a(1).json:1", ("q", "a")),
    Chat("d/a.json:4", ("q", "a"), ("turn dropped", "truncated: 9 tokens lost")),
]
REJECTED = [refused(f"d/a.json:{n}", "no answer", row={"n": n}) for n in range(20, 25)]
REJECTED += [refused("d/a.json:25", "not JSON", row='"source": "d/a.json:20"')]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, tiny_folder):
    return on_disk.write(tmp_path_factory.mktemp("provenance") / "out", ROWS, REJECTED, tiny_folder)


@pytest.mark.parametrize(
    ("source", "rows"),
    [
        ("d/a.json:1", [0]),
        ("a.json:1", [0, 2]),
        ("a(1).json:1", [3]),
        ("json:1", []),
        ("a.json:2", []),
        ("a.json:", []),
        (".*", []),
    ],
)
def test_a_place_may_leave_out_folders_and_nothing_else(dataset, source, rows):
    assert provenance.find(store.read(dataset), source) == rows


@pytest.mark.parametrize(("source", "rows"), [("a.json:20", [{"n": 20}]), ("d/a.json:2", []), ("n/a.json:20", [])])
def test_a_rejected_row_is_found_by_its_own_place_alone(dataset, source, rows):
    assert [row["row"] for row in provenance.find_rejected(dataset, source)] == rows


def test_reasons_name_the_first_places_and_count_all(dataset):
    assert provenance.reasons(store.read(dataset), dataset) == [
        Reason("repaired", "blank turn dropped", 2, ("d/a.json:1", "d/a.json:11")),
        Reason("repaired", "BOM", 2, ("d/a.json:11", "e/a.json:1")),
        Reason("truncated", "truncated", 2, ("e/a.json:1", "d/a.json:4")),
        Reason("repaired", "turn dropped", 1, ("d/a.json:4",)),
        Reason("rejected", "no answer", 5, ("d/a.json:20", "d/a.json:21", "d/a.json:22"), "mend it"),
        Reason("rejected", "not JSON", 1, ("d/a.json:25",), "mend it"),
    ]


def test_outcomes_are_the_ledgers_in_all_and_by_file(dataset):
    found = provenance.outcomes(store.facts(dataset))
    assert found[0] == ("all", 11, {"kept": 1, "repaired": 2, "truncated": 2, "rejected": 6})
    assert [(o.name, o.rows_read) for o in found[1:]] == [("d/a.json", 9), ("e/a.json", 1), ("e/a(1).json", 1)]


def test_a_ledger_of_nlpft_0_1_is_understood():
    facts = {"rows_read": 3, "kept": 1, "rejected": {"no answer": 2}, "files": {}}
    assert provenance.outcomes(facts)[0].counts == {"kept": 1, "repaired": 0, "truncated": 0, "rejected": 2}


def test_a_dataset_that_says_nothing_of_itself_has_no_provenance(tmp_path):
    column = pa.array([[1]], pa.list_(pa.int32()))
    bare = pa.table({"input_ids": column, "labels": column})
    odd = bare.append_column("source", pa.array([3])).append_column("notes", pa.array([None], pa.string()))
    for table in (bare, odd):
        assert provenance.find(table, "a.json:1") == []
        assert provenance.reasons(table, tmp_path) == []
    assert provenance.outcomes({"files": ["a.json"]}) == []
    coded = bare.append_column("source", pa.array(["d/a.json:1"]).dictionary_encode())
    assert provenance.find(coded, "a.json:1") == [0]


@pytest.mark.parametrize("line", ["{", "[]", '{"source": "a:1"}', "[" * 100_000])
def test_a_damaged_line_is_named(tmp_path, line):
    good = json.dumps({"source": "a:1", "reason": "r"})
    (tmp_path / "rejected.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(DataError, match=r"rejected\.jsonl:2: damaged"):
        list(provenance.rejected(tmp_path))
