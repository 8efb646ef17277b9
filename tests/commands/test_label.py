"""`nlpft label`, and `nlpft inspect` on what it makes."""

import pytest
from small_tokenizers import wordpiece

from nlpft.cli import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a model and labelled files."""
    monkeypatch.chdir(tmp_path)
    wordpiece(tmp_path / "model")
    (tmp_path / "train").write_text("good the film\nbad a film\ngood [the] good film\n")
    (tmp_path / "test").write_text("good the film\nbad the bad\n")
    (tmp_path / "tags").write_text("new B-LOC\nyork I-LOC\nplays O\n\njohn B-PER\n")
    return tmp_path


def test_rows_labels_and_leaks_are_shown(folder, capsys):
    assert main(["label", "train=train", "test=test", "-o", "out", "-m", "model"]) == 0
    printed = capsys.readouterr().out
    assert [line.split() for line in printed.splitlines() if line.startswith("good")] == [["good", "2", "1"]]
    assert "warning: train and test share texts: 1 rows, 0 of them with another label (train:1 = test:1)" in printed


def test_changed_copies_are_counted_apart(folder, capsys):
    assert main(["label", "train=train", "test=test", "-o", "out", "-m", "model", "--augment", "insert"]) == 0
    printed = capsys.readouterr().out
    assert [line.split() for line in printed.splitlines() if line.startswith("read ")] == [["read", "5"]]
    assert int(printed.partition(" changed copies")[0].splitlines()[-1]) <= 3


def test_too_many_rejected_rows_are_the_exit_code(folder, capsys):
    (folder / "train").write_text("good the film\nbad a film\ngood a\nbad b\nbad\n")
    assert main(["label", "train", "-o", "out", "-m", "model"]) == 1
    assert "20.0% of the rows were rejected" in capsys.readouterr().err
    assert main(["label", "train", "-o", "out", "-m", "model", "--max_rejected", "0.5"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [([], "no input"), (["train"], "no output"), (["train", "-o", "out", "--max_rejected", "2"], "max_rejected 2")],
)
def test_what_is_missing_is_said(folder, capsys, words, message):
    assert main(["label", *words, "-m", "model"]) == 2
    assert message in capsys.readouterr().err


def test_a_text_is_shown_with_its_label(folder, capsys):
    main(["label", "train", "-o", "out", "-m", "model"])
    capsys.readouterr()
    assert main(["inspect", "out"]) == 0
    printed = capsys.readouterr().out
    assert "── train:1  4 tokens  good" in printed
    assert "[CLS] the film [SEP]" in printed
    assert "read    3 rows: 3 kept, 0 repaired, 0 truncated, 0 rejected" in printed
    assert main(["inspect", "out", "--source", "train:9"]) == 2


def test_spans_are_marked_with_their_type(folder, capsys):
    main(["label", "tags", "-o", "out", "-m", "model"])
    capsys.readouterr()
    assert main(["inspect", "out"]) == 0
    assert "⟦new york⟧ LOC plays\n" in capsys.readouterr().out
    assert main(["inspect", "out", "--source", "tags:1", "--tokens"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[2:] for line in printed[1:7]] == [
        ["[CLS]"],
        ["new", "B-LOC"],
        ["york", "I-LOC"],
        ["play", "O"],
        ["##s"],
        ["[SEP]"],
    ]


def test_a_rejected_row_is_shown_with_its_reason(folder, capsys):
    (folder / "train").write_text("good the film\nbad a film\ngood a\nbad b\nbad\n")
    main(["label", "train", "-o", "out", "-m", "model"])
    capsys.readouterr()
    assert main(["inspect", "out", "--source", "train:5"]) == 0
    assert "rejected, empty text" in capsys.readouterr().out


def test_what_is_not_shown_of_labels_is_refused(folder, capsys):
    main(["label", "train", "-o", "out", "-m", "model"])
    assert main(["inspect", "out", "--statistics"]) == 2
    assert "html and statistics" in capsys.readouterr().err
