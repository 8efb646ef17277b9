"""Labelled files become datasets in which every row is accounted for."""

import json

import pytest
from small_tokenizers import byte_level, wordpiece

from nlpft.data import store
from nlpft.data.labelled.convert import convert
from nlpft.data.labelled.options import LabelOptions
from nlpft.errors import ConfigError, DataError

TRAIN = "good the film\nbad a film\ngood the good film\nbad a bad film\n"
TEST = "good The  film\nbad the bad\nworst the the\n"
TAGGED = "john B-PER\nplays O\n\nnew B-LOC\nyork I-LOC\na O\n"


@pytest.fixture
def tokenizer(tmp_path):
    return wordpiece(tmp_path / "model")


@pytest.fixture
def files(tmp_path):
    """Paths by name, for files with this content."""

    def write(**contents):
        for name, content in contents.items():
            (tmp_path / name).write_text(content)
        return {name: str(tmp_path / name) for name in contents}

    return write


def made(names, out, tokenizer, **options):
    return convert(names, out, tokenizer, LabelOptions(**options)).summary


def table(folder, column="target"):
    return store.read(folder, needs=("input_ids", column))


def rejected(out):
    return [json.loads(line) for line in (out / "rejected.jsonl").open()]


def test_columns_and_facts_are_those_of_the_contract(files, tmp_path, tokenizer):
    found = files(rows=TRAIN)
    out = tmp_path / "out"
    made([found["rows"]], out, tokenizer)
    rows = table(out).to_pylist()
    assert set(rows[0]) == {"input_ids", "length", "source", "notes", "pair_start", "key", "target"}
    assert [tokenizer.token_text(i) for i in rows[0]["input_ids"]] == ["[CLS]", "the", "film", "[SEP]"]
    assert [row["target"] for row in rows] == [1, 0, 1, 0]
    assert (rows[1]["length"], rows[1]["source"], rows[1]["pair_start"]) == (4, f"{found['rows']}:2", 0)
    facts = store.facts(out)
    assert facts["problem_type"] == "single_label_classification"
    assert (facts["label_names"], facts["label_counts"]) == (["bad", "good"], {"bad": 2, "good": 2})
    assert facts["tokenizer_hash"] == tokenizer.hash


def test_datasets_opens_every_kind(files, tmp_path, tokenizer):
    from datasets import load_from_disk

    found = files(
        single=TRAIN,
        several="".join(json.dumps({"text": f"the film {i}", "labels": ["x", "y"][: i % 3]}) + "\n" for i in range(6)),
        numbers="text,score\nthe film,0.5\na film,1.5\nthe the,2\n",
        tags=TAGGED,
    )
    types = {
        "single": "int32",
        "several": "List(Value('float32'))",
        "numbers": "float32",
        "tags": "List(Value('int32'))",
    }
    for name, kind in types.items():
        made([found[name]], tmp_path / f"{name}.out", tokenizer)
        data = load_from_disk(str(tmp_path / f"{name}.out"))
        last = data.features["labels" if name == "tags" else "target"]
        assert getattr(last, "dtype", "") == kind or repr(last) == kind
        assert len(data[:]["input_ids"]) == data.num_rows


def test_targets_of_each_problem_type(files, tmp_path, tokenizer):
    found = files(
        several='{"text": "a", "labels": ["x"]}\n{"text": "b", "labels": []}\n{"text": "c", "labels": ["y", "x"]}\n',
        numbers="text,score\nthe film,0.5\na film,1.5\nthe the,2\n",
    )
    made([found["several"]], tmp_path / "s", tokenizer)
    made([found["numbers"]], tmp_path / "n", tokenizer)
    assert table(tmp_path / "s").column("target").to_pylist() == [[1, 0], [0, 0], [1, 1]]
    assert table(tmp_path / "n").column("target").to_pylist() == [0.5, 1.5, 2]
    assert store.facts(tmp_path / "n")["label_names"] == []
    assert store.facts(tmp_path / "n")["label_counts"]["max"] == 2


def test_pairs_say_where_the_second_text_begins(files, tmp_path, tokenizer):
    lines = [{"premise": "a film", "hypothesis": "the film", "label": label} for label in "nyn"]
    found = files(rows="".join(json.dumps(line) + "\n" for line in lines))
    made([found["rows"]], tmp_path / "out", tokenizer)
    row = table(tmp_path / "out").to_pylist()[0]
    assert [tokenizer.token_text(i) for i in row["input_ids"]][row["pair_start"] :] == ["the", "film", "[SEP]"]


def test_a_words_tag_is_on_its_first_piece(files, tmp_path, tokenizer):
    found = files(rows=TAGGED)
    made([found["rows"]], tmp_path / "out", tokenizer)
    facts, rows = store.facts(tmp_path / "out"), table(tmp_path / "out", "labels").to_pylist()
    assert facts["label_names"] == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    assert [tokenizer.token_text(i) for i in rows[0]["input_ids"]] == ["[CLS]", "john", "play", "##s", "[SEP]"]
    assert rows[0]["labels"] == [-100, 3, 0, -100, -100]
    assert rows[1]["labels"] == [-100, 1, 2, 0, -100]
    assert (facts["problem_type"], facts["label_counts"]["I-LOC"]) == ("tagging", 1)


def test_a_sentence_that_is_too_long_loses_words_with_their_tags(files, tmp_path, tokenizer):
    found = files(rows=TAGGED)
    summary = made([found["rows"]], tmp_path / "out", tokenizer, max_length=4)
    rows = table(tmp_path / "out", "labels").to_pylist()
    assert [row["labels"] for row in rows] == [[-100, 3, -100], [-100, 1, 2, -100]]
    assert (summary["truncated"], summary["tokens_lost"], rows[1]["notes"]) == (2, 3, "truncated: 1 tokens lost")


def test_every_row_is_accounted_for(files, tmp_path, tokenizer):
    found = files(train=TRAIN + "good\n" + "bad " + "a " * 80 + "\n", test=TEST)
    summary = made([f"train={found['train']}", f"test={found['test']}"], tmp_path / "out", tokenizer)
    outcomes = {name: summary[name] for name in ("rows_read", "kept", "truncated", "rejected")}
    assert outcomes == {"rows_read": 9, "kept": 6, "truncated": 1, "rejected": 2}
    assert summary["tokens_lost"] == 80 + 2 - 64
    places = {row["source"].rpartition("/")[2]: (row["reason"], row["detail"]) for row in rejected(tmp_path / "out")}
    assert places == {"train:5": ("empty text", ""), "test:3": ("label unseen in training", "worst")}
    assert all(row["remedy"] for row in rejected(tmp_path / "out"))
    notes = table(tmp_path / "out" / "train").column("notes").to_pylist()
    assert notes == ["", "", "", "", "truncated: 18 tokens lost"]


def test_labels_come_from_the_training_split(files, tmp_path, tokenizer):
    found = files(train=TRAIN, test=TEST)
    names = [f"test={found['test']}", f"train={found['train']}"]
    made(names, tmp_path / "out", tokenizer)
    assert store.facts(tmp_path / "out" / "test")["label_names"] == ["bad", "good"]
    with pytest.raises(DataError, match="test:3: label unseen in training: worst"):
        made(names, tmp_path / "other", tokenizer, unseen="error")
    assert not (tmp_path / "other").exists()


def test_texts_of_two_splits_are_reported_dropped_or_refused(files, tmp_path, tokenizer):
    found = files(train=TRAIN, test=TEST)
    names = [f"train={found['train']}", f"test={found['test']}"]
    leak = made(names, tmp_path / "a", tokenizer)["leaks"]["train and test"]
    assert leak == {"rows": 1, "other_label": 0, "places": [[f"{found['train']}:1", f"{found['test']}:1"]]}
    summary = made(names, tmp_path / "b", tokenizer, leak="drop")
    assert summary["reasons"]["rejected"] == {"text is also in another split": 1, "label unseen in training": 1}
    assert (table(tmp_path / "b" / "train").num_rows, table(tmp_path / "b" / "test").num_rows) == (3, 2)
    with pytest.raises(DataError, match="train:1: text is also in another split"):
        made(names, tmp_path / "c", tokenizer, leak="error")


def test_duplicates_go_where_text_and_label_are_equal(files, tmp_path, tokenizer):
    found = files(rows=TRAIN + "good the  FILM\nbad the film\n")
    summary = made([found["rows"]], tmp_path / "out", tokenizer, duplicates="exact")
    assert summary["reasons"]["rejected"] == {"same text and label as an earlier row": 1}
    assert [row["detail"] for row in rejected(tmp_path / "out")] == [f"{found['rows']}:1"]


def test_drawn_splits_keep_proportions_and_hold_all_rows(files, tmp_path, tokenizer):
    found = files(rows="".join(f"{'good' if i % 5 else 'bad'} the film {i}\n" for i in range(50)))
    made([found["rows"]], tmp_path / "out", tokenizer, splits=("train=0.8", "test=0.2"))
    assert [store.facts(tmp_path / "out" / split)["label_counts"] for split in ("train", "test")] == [
        {"bad": 8, "good": 32},
        {"bad": 2, "good": 8},
    ]
    sources = [s for split in ("train", "test") for s in table(tmp_path / "out" / split).column("source").to_pylist()]
    assert len(set(sources)) == 50
    with pytest.raises(ConfigError, match="the files name their splits already"):
        made([f"train={found['rows']}"], tmp_path / "x", tokenizer, splits=("train=0.8", "test=0.2"))


def test_a_dataset_of_one_class_is_refused_and_nothing_is_left(files, tmp_path, tokenizer):
    found = files(rows="good one\ngood two\n")
    with pytest.raises(DataError, match=r"rows: a classifier needs two labels"):
        made([found["rows"]], tmp_path / "out", tokenizer)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "rows"]


def test_where_no_row_can_be_used_the_first_place_of_each_reason_is_named(files, tmp_path, tokenizer):
    found = files(rows="text,label\n,a\n,b\n")
    with pytest.raises(DataError, match=r"(?s)none of 2 rows can be used.*2 x empty text, first at .*rows:2"):
        made([found["rows"]], tmp_path / "out", tokenizer)


def test_labels_and_tags_in_one_dataset_are_refused(files, tmp_path, tokenizer):
    found = files(a=TRAIN, b=TAGGED)
    with pytest.raises(DataError, match=r"b:1: words with tags, but .*a:1: a text with a label"):
        made([found["a"], found["b"]], tmp_path / "out", tokenizer)


def test_repairs_of_tags_and_words_are_counted_by_row(files, tmp_path, tokenizer):
    found = files(rows=TAGGED + "\na O\nb I-PER\n\u200b O\n")
    summary = made([found["rows"]], tmp_path / "out", tokenizer)
    repaired = {"I- without B-": 1, "word without pieces became the unknown token": 1}
    assert (summary["reasons"]["repaired"], summary["repaired"], summary["kept"]) == (repaired, 1, 2)
    row = table(tmp_path / "out", "labels").to_pylist()[2]
    assert (row["labels"], row["notes"]) == ([-100, 0, 3, 0, -100], "; ".join(repaired))


def test_a_word_that_vanishes_where_there_is_no_unknown_token_costs_its_row(files, tmp_path):
    lines = [{"tokens": words, "tags": ["B-X", "O"]} for words in (["", "a"], ["a", "b"])]
    found = files(rows="".join(json.dumps(line) + "\n" for line in lines))
    made([found["rows"]], tmp_path / "out", byte_level(tmp_path / "model"))
    assert [(row["reason"], row["detail"]) for row in rejected(tmp_path / "out")] == [("a word without a token", "''")]


def test_a_text_without_any_token_is_rejected(files, tmp_path, tokenizer):
    found = files(rows=TRAIN + "good \u200b\n")
    made([found["rows"]], tmp_path / "out", tokenizer)
    assert [row["reason"] for row in rejected(tmp_path / "out")] == ["no token"]


def test_changed_copies_stand_beside_the_training_rows_and_are_counted(files, tmp_path, tokenizer):
    found = files(train=TRAIN, test=TEST)
    names = [f"train={found['train']}", f"test={found['test']}"]
    summary = made(names, tmp_path / "out", tokenizer, augment=("insert",), augment_copies=2, augment_share=1.0)
    rows = table(tmp_path / "out" / "train").to_pylist()
    assert (len(rows), summary["extra_rows"], summary["rows_read"]) == (12, 8, 7)
    copies = [row for row in rows if row["notes"] == "changed copy"]
    first = [row for row in copies if row["source"] == rows[0]["source"]]
    assert ({row["key"] for row in first}, {row["target"] for row in first}) == ({rows[0]["key"]}, {rows[0]["target"]})
    assert table(tmp_path / "out" / "test").num_rows == 2
    with pytest.raises(ConfigError, match="augment_share 2"):
        made(names, tmp_path / "x", tokenizer, augment_share=2.0)


def test_the_same_call_finds_the_dataset_and_another_content_does_not(files, tmp_path, tokenizer):
    found = files(rows=TRAIN)
    out = tmp_path / "out"
    assert not convert([found["rows"]], out, tokenizer).hit
    again = convert([found["rows"]], out, tokenizer)
    assert (again.hit, again.summary["rows_read"]) == (True, 4)
    files(rows=TRAIN + "good more\n")
    assert not convert([found["rows"]], out, tokenizer, overwrite=True).hit
    assert table(out).num_rows == 5


def test_an_engine_that_is_not_exact_on_the_texts_is_not_used(files, tmp_path, monkeypatch):
    found, tokenizer = files(rows=TRAIN), byte_level(tmp_path / "model")
    made([found["rows"]], tmp_path / "a", tokenizer)

    def choose(size, texts):
        tokenizer.engine = "splintr"
        vars(tokenizer)["_encode"] = lambda texts: tokenizer.encode_exactly([text.upper() for text in texts])

    monkeypatch.setattr("nlpft.data.labelled.convert.LARGE", 0)
    monkeypatch.setattr("nlpft.data.engines.distrust", lambda *known: None)
    monkeypatch.setattr(tokenizer, "choose_engine", choose)
    assert made([found["rows"]], tmp_path / "b", tokenizer)["engine"] == "tokenizers"
    assert table(tmp_path / "b").column("input_ids") == table(tmp_path / "a").column("input_ids")
