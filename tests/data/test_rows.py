"""Rows of a slice: each is a record or bad for a fixed reason; nothing that a parser drops without a word goes unnoticed."""

import json

import pytest

from nlpft.data import rows as rows_module
from nlpft.data.rows import Bad, rows, strings
from nlpft.data.slices import CutOff, Slice, cut
from nlpft.data.sources import source
from nlpft.errors import DataError


def lines(*texts):
    return rows(Slice("f.jsonl", 1, 0, "\n".join(texts).encode("utf-8", "surrogatepass")))


def reasons(read):
    return [r.error.reason if isinstance(r, Bad) else "" for r in read.records]


@pytest.mark.parametrize(
    "text",
    ['{"a": NaN}', '{"a": -Infinity}', '{"a": "\\ud800 half"}', '{"a": 1e999}'],
)
def test_what_only_the_lenient_parser_takes_is_a_suspect_record(text):
    read = lines('{"a": 1}', text, '{"a": 2}')
    assert reasons(read) == ["", "", ""]
    assert read.suspect == {1}


def test_null_characters_huge_numbers_and_other_values_are_records():
    read = lines('{"a": "\\u0000"}', "[1]", "null", "3", '{"a": 123456789012345678901234567890}')
    assert [r.data for r in read.records[:4]] == [{"a": "\0"}, [1], None, 3]
    assert reasons(read) == [""] * 5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": ', "row is not JSON"),
        ('{"a": "\0"}', "row is not JSON"),
        ('{"a": 1} {"a": 2}', "row is not JSON"),
        ('{"a": ' + "9" * 5000 + "e}", "row is not JSON"),
        ('{"a": ' + "[" * 200 + "]" * 200 + "}", "row is nested too deeply"),
        ('{"a": ' * 990 + "1" + "}" * 990, "row is nested too deeply"),
        ("[" * 100_000 + "]" * 100_000, "row is nested too deeply"),
        ("[" * 100_000, "row is nested too deeply"),
        ('{"a": "\udce9"}', "row is not UTF-8"),
        ('{"a": 1, "a": 2}', "a key stands twice in an object"),
        (
            '{"a": [{"from": "x", "from": "y", "value": "z"}, {"from": "x", "value": "z"}]}',
            "a key stands twice in an object",
        ),
        ('{"a": {"b": {"c": 1, "c": null}}}', "a key stands twice in an object"),
        ('{"\\u0061": 1, "a": 2}', "a key stands twice in an object"),
    ],
)
def test_a_row_that_cannot_be_used_as_it_stands_costs_itself_only(text, reason):
    read = lines('{"a": 1}', text, '{"a": 2}')
    assert reasons(read) == ["", reason, ""]
    bad = read.records[1]
    assert (bad.source, bad.offset) == ("f.jsonl:2", 9)
    assert bad.text.startswith(text[:5])
    assert read.suspect == set()


def test_a_broken_array_of_deep_rows_is_rows(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('[{"a": 1}, ' + '{"a": ' * 5000 + "1" + "}" * 5000 + ', {"a": 2}]')
    read = rows(next(cut(source(path), CutOff())))
    assert reasons(read) == ["", "row is nested too deeply", ""]


def test_the_key_that_stands_twice_is_named():
    assert lines('{"a": {"role": 1, "role": 2}}').records[0].error.detail == "'role'"


@pytest.mark.parametrize("quotes", ['\\"', '\\\\\\"', "\\\\"])
def test_quotes_in_texts_are_not_taken_for_keys(quotes, monkeypatch):
    """The slow look for duplicate keys is for rows that have some, or it would cost every row dear."""
    monkeypatch.setattr(rows_module, "_check_keys", lambda raw: pytest.fail("a good row was looked at twice"))
    row = '{"a": [{"b": "x' + quotes + '", "c": [true, "' + quotes + ':"]}, {}], "d": null, "e": {"f": "g"}}'
    assert lines(row, row).records[1].data == json.loads(row)


def test_strings_are_counted_wherever_they_stand():
    value = {
        "a": "1",
        "b": ["2", 3, ["4", {"c": "5"}]],
        "d": {"e": {"f": None}},
        "g": [{"h": "6"}, {"i": [], "j": "7"}],
    }
    assert strings(value) == 9 + 7 == json.dumps(value).count('"') / 2


def test_a_file_that_has_gone_is_an_error_that_names_it(tmp_path):
    with pytest.raises(DataError, match=r"gone\.json: no such file"):
        rows(Slice("gone.json", 1, 0, (str(tmp_path / "gone.json"), 10)))
