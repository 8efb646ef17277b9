"""Folds and subsets of a dataset on disk."""

import pyarrow as pa
import pytest
import tiny_heads

from nlpft.data import store
from nlpft.data.examples import task
from nlpft.data.labelled import folds
from nlpft.data.labelled.convert import convert
from nlpft.data.labelled.options import LabelOptions
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import DataError


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_heads.save_bert(tmp_path_factory.mktemp("bert"))


def made(folder, bert, lines, **options):
    (folder / "train.tsv").write_text("\n".join(["text\tlabel", *lines]) + "\n", encoding="utf-8")
    convert([str(folder / "train.tsv")], folder / "out", TextTokenizer(bert), LabelOptions(**options), model=str(bert))
    return folder / "out"


def test_labels_are_counted_anew_in_each_fold(tmp_path, bert):
    lines = [
        f"{'very ' * (n % 9)}{'good' if n % 3 else 'bad'} film{' play' * (n // 9)}\t{'yes' if n % 3 else 'no'}"
        for n in range(36)
    ]
    found = folds.write(made(tmp_path, bert, lines), tmp_path / "folds", 4)
    for fold in found:
        assert task(fold.folder / "train").counts == (9, 18)
        assert task(fold.folder / "test").counts == (3, 6)
        assert len(fold.rows) + fold.train == 36


def test_equal_texts_share_a_fold_and_changed_copies_are_scored_in_none(tmp_path, bert):
    lines = [
        f"{word} {other}\t{'yes' if word == 'good' else 'no'}"
        for word in ("good", "bad")
        for other in tiny_heads.WORDS[2:]
    ]
    data = made(tmp_path, bert, [*lines, *lines[:6]], augment=("swap",))
    table = store.read(data, folds.NEEDS)
    assert any(folds.COPY in note for note in table.column("notes").to_pylist())
    found = folds.write(data, tmp_path / "folds", 3)
    assert sum(len(fold.rows) for fold in found) == 26
    for fold in found:
        train, test = (store.read(fold.folder / split, folds.NEEDS) for split in ("train", "test"))
        assert not set(train.column("key").to_pylist()) & set(test.column("key").to_pylist())
        assert not any(folds.COPY in note for note in test.column("notes").to_pylist())


def test_tags_are_counted_by_word(tmp_path, bert):
    data = tiny_heads.tagged(tmp_path, bert) / "train"
    whole = store.info(data)["label_counts"]
    found = folds.write(data, tmp_path / "folds", 2)
    parts = [store.info(fold.folder / "test")["label_counts"] for fold in found]
    assert {name: parts[0][name] + parts[1][name] for name in whole} == whole
    assert folds.label_counts(store.read(data, ("labels",)), store.info(data)) == whole


def test_several_labels_are_counted_each_by_itself():
    rows = pa.table({"target": pa.array([[1, 0], [1, 1], [0, 0]], pa.list_(pa.float32()))})
    info = {"problem_type": "multi_label_classification", "label_names": ["a", "b"]}
    assert folds.label_counts(rows, info) == {"a": 2, "b": 1}


def test_folds_that_are_there_stay_and_other_ones_replace_them(tmp_path, bert):
    data = tiny_heads.classified(tmp_path, bert) / "train"
    first = folds.write(data, tmp_path / "folds", 2)[0].folder / "nlpft.json"
    before = first.stat().st_ino
    folds.write(data, tmp_path / "folds", 2)
    assert first.stat().st_ino == before
    folds.write(data, tmp_path / "folds", 2, seed=1)
    assert first.stat().st_ino != before


def test_a_subset_has_its_labels_in_proportion(tmp_path, bert):
    data = tiny_heads.classified(tmp_path, bert) / "train"
    part = folds.subset(data, tmp_path / "few", 10)
    assert abs(len(store.read(part, folds.NEEDS)) - 10) <= 2
    no, yes = task(part).counts
    assert abs(no - yes) <= 1


def test_more_folds_than_texts_are_refused(tmp_path, bert):
    with pytest.raises(DataError, match="3 folds of 2 different texts"):
        folds.write(made(tmp_path, bert, ["good\tyes", "bad\tno", "bad\tno"]), tmp_path / "folds", 3)
