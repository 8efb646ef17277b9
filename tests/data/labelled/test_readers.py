"""Labelled files of every kind: the same rows, whatever they are written in, and bad rows with their place."""

import gzip
import json

import pytest

from nlpft.data.labelled.example import Example
from nlpft.data.labelled.inputs import find
from nlpft.data.labelled.options import LabelColumns, LabelOptions
from nlpft.data.labelled.readers import read_all
from nlpft.data.ledger import Rejection
from nlpft.errors import ConfigError, DataError

ROWS = [
    ("good", "a fine film , really"),
    ("bad", "what a waste"),
    ("good", 'so "fine" again'),
    ("bad", "no film at all"),
]
JSONL = "".join(json.dumps({"label": label, "text": text}) + "\n" for label, text in ROWS)
CSV = "text,label\n" + "".join('"' + text.replace('"', '""') + f'",{label}\n' for label, text in ROWS)
TSV = "".join(f"{label}\t{text}\n" for label, text in ROWS)
LINES = "".join(f"{label} {text}\n" for label, text in ROWS)
FASTTEXT = "".join(f"__label__{label} {text}\n" for label, text in ROWS)
TAGGED = [(["John", "lives", "here"], ["B-PER", "O", "O"]), (["Paris"], ["B-LOC"])]


def rows(path, content="", **options):
    """The rows of a file with `content`, or of what is there already."""
    if content:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [row for found in read_all(find([str(path)]), LabelOptions(**options)) for row in found.rows]


def said(found):
    """Labels and texts, or reasons."""
    return [(r.label, r.text) if isinstance(r, Example) else r.why.reason for r in found]


def tags(found):
    return [(list(r.words), list(r.tags)) if isinstance(r, Example) else r.why.reason for r in found]


@pytest.mark.parametrize(
    "content", [JSONL, json.dumps([json.loads(line) for line in JSONL.splitlines()]), CSV, TSV, LINES, FASTTEXT]
)
@pytest.mark.parametrize("name", ["rows.txt", "rows.train", "rows"])
def test_the_content_tells_the_format_whatever_the_files_name(content, name, tmp_path):
    assert said(rows(tmp_path / name, content)) == ROWS


@pytest.mark.parametrize(("name", "content"), [("rows.csv", CSV), ("rows.tsv", TSV), ("rows.jsonl", JSONL)])
def test_packed_files_are_read(name, content, tmp_path):
    assert said(rows(tmp_path / f"{name}.gz", gzip.compress(content.encode()))) == ROWS


def test_parquet_and_saved_datasets_give_the_names_of_classes(tmp_path):
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    names = ["bad", "good"]
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    columns = {"text": [text for _, text in ROWS], "label": [names.index(label) for label, _ in ROWS]}
    data = Dataset.from_dict(columns, features)
    DatasetDict({"test": data, "train": data}).save_to_disk(str(tmp_path / "saved"))
    found = find([str(tmp_path / "saved")])
    assert [one.split for one in found] == ["train", "test"]
    assert said(read_all(found, LabelOptions())[0].rows) == ROWS
    data.to_parquet(str(tmp_path / "rows.parquet"))
    assert said(rows(tmp_path / "rows.parquet")) == [(names.index(label), text) for label, text in ROWS]


def test_quotes_without_a_partner_cost_no_row(tmp_path):
    content = 'ham\t"well, he said\nspam\twin a prize" now\nham\tas "quoted" as that\nham\t"\nspam\tok then\n'
    assert [text for _, text in said(rows(tmp_path / "sms.tsv", content))] == [
        '"well, he said',
        'win a prize" now',
        'as "quoted" as that',
        '"',
        "ok then",
    ]


def test_rows_know_their_place(tmp_path):
    path = tmp_path / "rows.txt"
    found = rows(path, LINES + "\n  \ngood\nbad one more\n")
    assert [row.source for row in found] == [f"{path}:{line}" for line in (1, 2, 3, 4, 7, 8)]
    assert said(found)[4] == "empty text"


def test_texts_and_labels_that_are_missing_are_rejected(tmp_path):
    content = CSV + '"  ",good\n,bad\n"fine words",\n'
    assert said(rows(tmp_path / "rows.csv", content))[4:] == ["empty text", "empty text", "no label"]
    lines = JSONL + '{"text": ["a"], "label": "good"}\n{"text": "a", "label": null}\n{"label": "bad"}\n[1]\n'
    found = said(rows(tmp_path / "rows.jsonl", lines))
    assert found[4:] == ["not text", "no label", "no text column", "not an object"]
    pairs = [{"premise": "a", "hypothesis": second, "label": "x"} for second in ("b", " ")]
    assert said(rows(tmp_path / "pairs.json", json.dumps(pairs))) == [("x", "a"), "empty text"]


def test_latin_1_is_rejected_row_by_row_or_read_if_named(tmp_path):
    content = LINES.encode() + "good très bien\n".encode("latin-1")
    assert said(rows(tmp_path / "rows.txt", content))[4] == "row is not UTF-8"
    assert said(rows(tmp_path / "rows.txt", content, encoding="latin-1"))[4] == ("good", "très bien")
    table = ("label\ttext\n" + "".join(f"{label}\tété {text}\n" for label, text in ROWS)).encode("latin-1")
    with pytest.raises(DataError, match=r"rows\.tsv:2: row is not UTF-8.*--encoding"):
        rows(tmp_path / "rows.tsv", table)
    assert said(rows(tmp_path / "rows.tsv", table, encoding="latin-1"))[0] == ("good", "été a fine film , really")
    with pytest.raises(ConfigError, match="encoding 'latn': no such encoding"):
        rows(tmp_path / "rows.tsv", table, encoding="latn")


CONLL = "-DOCSTART- O\n\n# sent_id = 1\nJohn B-PER\nlives O\nhere O\n \t \nParis B-LOC"


@pytest.mark.parametrize(
    "content",
    [CONLL, CONLL.replace(" B-", "\tB-").replace(" O", "\tO"), CONLL.replace(" B-", " NN B-").replace(" O", " NN O")],
)
def test_columns_are_parted_by_blanks_or_tabs_and_the_last_one_is_the_tag(content, tmp_path):
    found = rows(tmp_path / "rows.txt", content)
    assert tags(found) == TAGGED
    assert [row.source.rpartition(":")[2] for row in found] == ["4", "8"]


def test_the_task_tag_reads_columns_of_other_tags_than_spans(tmp_path):
    found = rows(tmp_path / "pos.txt", "John NNP\nlives VBZ\nhere RB\n\nParis NNP\n", task="tag")
    assert tags(found) == [(["John", "lives", "here"], ["NNP", "VBZ", "RB"]), (["Paris"], ["NNP"])]


def test_columns_are_named_by_their_numbers(tmp_path):
    content = "1 John B-PER x\n2 lives O x\n3 here O x\n\n1 Paris B-LOC x\n"
    own = LabelColumns(words="1", tags="2")
    assert tags(rows(tmp_path / "rows.txt", content, format="conll", columns=own)) == TAGGED
    with pytest.raises(ConfigError, match=r"columns\.words 'word': columns of CoNLL files are numbers"):
        rows(tmp_path / "rows.txt", content, format="conll", columns=LabelColumns(words="word"))


def test_a_hash_is_a_word_where_it_has_a_tag(tmp_path):
    found = rows(tmp_path / "rows.txt", "# O\n1 O\nhit O\n\n# text = John\nJohn B-PER\n")
    assert tags(found) == [(["#", "1", "hit"], ["O", "O", "O"]), (["John"], ["B-PER"])]


def test_a_word_without_a_tag_costs_its_sentence_and_is_named(tmp_path):
    path = tmp_path / "rows.txt"
    found = rows(path, "a O\nb\nc O\n\nParis B-LOC\nis O\nfar O\n")
    assert tags(found) == ["a word without a tag", (["Paris", "is", "far"], ["B-LOC", "O", "O"])]
    assert isinstance(found[0], Rejection)
    assert found[0].why.detail == f"{path}:2: 'b'"
    assert tags(rows(path, "a\tO\nb\t\nc\tO\n\nParis\tB-LOC\nis\tO\nfar\tO\n"))[0] == "a word without a tag"


def test_lists_of_words_with_as_many_tags(tmp_path):
    lines = [{"tokens": words, "ner_tags": found} for words, found in TAGGED]
    lines += [{"tokens": ["a", "b"], "ner_tags": ["O"]}, {"tokens": [], "ner_tags": []}]
    found = rows(tmp_path / "rows.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert tags(found) == [*TAGGED, "as many tags as words are needed", "no words"]
    assert found[2].why.detail == "2 words, 1 tags"


def test_lists_in_tables_are_read_as_python_or_json_writes_them(tmp_path):
    own = LabelColumns(words="w", tags="t")
    content = 'w\tt\n[\'John\', "lives", \'here\']\t["B-PER", "O", "O"]\nParis\tB-LOC\n[\'a\'\tO\n'
    assert tags(rows(tmp_path / "rows.tsv", content, columns=own, task="tag")) == [*TAGGED, (["['a'"], ["O"])]


def parallel(folder, words="John lives here \nParis\n", found="B-PER O O \nB-LOC\n", labels="x\ny\n"):
    folder.mkdir(parents=True)
    for name, content in {"seq.in": words, "seq.out": found, "label": labels}.items():
        (folder / name).write_text(content)
    return folder


def test_parallel_files_have_tags_and_for_the_task_classify_labels(tmp_path):
    parallel(tmp_path / "dev"), parallel(tmp_path / "train")
    assert [one.split for one in find([str(tmp_path)])] == ["train", "dev"]
    assert tags(rows(tmp_path / "dev")) == TAGGED
    assert said(rows(tmp_path / "dev", task="classify")) == [("x", "John lives here"), ("y", "Paris")]


def test_parallel_files_of_different_length_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"seq\.in has 2 lines, seq\.out 1"):
        rows(parallel(tmp_path / "x", found="B-PER O O\n"))


def test_a_file_without_labels_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"prose\.txt:1: neither JSON.*--format"):
        rows(tmp_path / "prose.txt", "All this is prose.\nNothing has a label.\nIt goes on.\nAnd on it goes.\n")


def test_a_file_that_does_not_tell_is_taken_to_be_like_the_others(tmp_path):
    (tmp_path / "a").write_text(LINES), (tmp_path / "b").write_text("good one\nbad two\nworse three\n")
    found = read_all(find([str(tmp_path / "b"), str(tmp_path / "a")]), LabelOptions())
    assert said(found[0].rows) == [("good", "one"), ("bad", "two"), ("worse", "three")]


def test_splits_are_named_by_all_files_or_none(tmp_path):
    a, b = tmp_path / "a.txt", tmp_path / "b.txt"
    a.write_text(LINES), b.write_text(LINES)
    assert [(one.split, one.name) for one in find([f"train={a}", f"test={b}"])] == [("train", str(a)), ("test", str(b))]
    with pytest.raises(ConfigError, match="in no split"):
        find([f"train={a}", str(b)])


def test_a_file_whose_name_has_an_equals_sign_is_that_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b.txt").write_text(LINES)
    assert [(one.split, one.name) for one in find(["a=b.txt"])] == [("", "a=b.txt")]
