"""Heads of several runs on one page: values as they were written, intervals as statistics has them, differences of pairs."""

import json

import numpy as np
import pytest
import tiny_heads
from run_folders import EVIL, Page, make_bare, make_run
from test_report_browser import OVERLAP, WIDER, browser  # noqa: F401 - a fixture

from nlpft import cli
from nlpft.data.examples import Examples
from nlpft.evaluation import head_scores
from nlpft.evaluation.head_scores import Scored
from nlpft.evaluation.report import side_by_side, write
from nlpft.types import Layout, Task

THREE = Task("single_label_classification", ("a", "b", EVIL))
SEVERAL = Task("multi_label_classification", ("a", "b", "c"))
TAGS = Task("tagging", ("O", "B-x", "I-x", "B-y"))


def evaluated(run, task, logits, targets, rows=None, file="test.tsv"):
    """A run with an evaluation called test."""
    rows = np.arange(len(targets)) if rows is None else rows
    count = int(rows.max()) + 1
    table = tiny_heads.table([[2, 3]] * count, target=[0] * count, source=[f"{file}:{i + 2}" for i in range(count)])
    data = Examples(None, Layout(True, "first"), table=table)
    make_bare(run)
    head_scores.write(run / "eval/test", "labels", task, Scored(logits, targets, rows), data, {"label": "test"})
    return run


def chosen(said, outputs=3):
    """Logits of a head that says `said`."""
    return 4 * np.eye(outputs, dtype=np.float32)[said]


def right_in(share, count=400, seed=0):
    """(said, true): of `count` rows this share is right."""
    draw = np.random.default_rng(seed)
    true = draw.integers(0, 3, count)
    return np.where(draw.permutation(count) < share * count, true, (true + 1) % 3), true


def by_name(found):
    return {table.measure: table for table in side_by_side.tables(write.read(found))}


@pytest.mark.parametrize("task", [THREE, SEVERAL, TAGS, Task("regression")], ids=lambda task: task.kind)
def test_values_are_those_that_were_written(tmp_path, task):
    draw = np.random.default_rng(0)
    rows = np.repeat(np.arange(20), 3) if task is TAGS else np.arange(60)
    targets = {
        THREE: draw.integers(0, 3, 60),
        SEVERAL: draw.integers(0, 2, (60, 3)).astype(np.float32),
        TAGS: draw.integers(0, 4, 60),
    }.get(task, draw.normal(size=60).astype(np.float32))
    runs = [evaluated(tmp_path / name, task, draw.normal(size=(60, task.outputs)).astype(np.float32), targets, rows)
            for name in ("one", "two")]  # fmt: skip
    found = by_name(runs)
    for number, run in enumerate(runs):
        (written,) = json.loads((run / "eval/test/results.json").read_text())["results"].values()
        for name in ("f1", "loss") if task.labels else ("mse",):
            assert found[name].scores[number].value == pytest.approx(written[f"{name},none"], abs=1e-5)
    assert "exact match" in found if task is TAGS else True


def test_intervals_are_as_wide_as_chance_in_the_rows(tmp_path):
    said, true = right_in(0.8)
    runs = [evaluated(tmp_path / name, THREE, chosen(said), true) for name in ("one", "two")]
    accuracy = by_name(runs)["accuracy"]
    one, two = accuracy.scores
    assert (one.value, accuracy.rows, accuracy.higher_is_better) == (0.8, 400, True)
    assert one.high - one.low == pytest.approx(2 * 1.96 * (0.8 * 0.2 / 400) ** 0.5, rel=0.1)
    assert one.difference is None
    assert two.difference == (0, 0, 0)


def test_a_difference_is_that_of_pairs(tmp_path):
    said, true = right_in(0.7)
    better = np.where(np.arange(400) % 20 == 0, true, said)  # right where it was, and on a few more
    runs = [evaluated(tmp_path / name, THREE, chosen(x), true) for name, x in {"one": said, "two": better}.items()]
    _, two = by_name(runs)["accuracy"].scores
    gained = np.mean((better == true) & (said != true))
    assert two.difference.value == pytest.approx(gained)
    assert 0 < two.difference.low < gained < two.difference.high
    assert two.difference.high - two.difference.low < (two.high - two.low) / 2
    assert not by_name(runs)["loss"].higher_is_better


def test_runs_on_other_rows_have_no_difference(tmp_path):
    said, true = right_in(0.7)
    runs = [
        evaluated(tmp_path / "one", THREE, chosen(said), true),
        evaluated(tmp_path / "two", THREE, chosen(said), true, file="other.tsv"),
        evaluated(tmp_path / "three", THREE, chosen(said[:50]), true[:50]),
        evaluated(tmp_path / "four", TAGS, chosen(said, 4), true),
        make_run(tmp_path / "five"),
    ]
    found = by_name(runs)["accuracy"]
    assert [(s.run, s.difference) for s in found.scores] == [("one", None), ("two", None), ("three", None)]


def test_the_tables_are_on_the_page_and_in_markdown_and_ask_for_no_base(tmp_path, browser):  # noqa: F811
    said, true = right_in(0.8)
    names = ("one", "a_run_of_a_long_name" * 4)
    runs = [evaluated(tmp_path / name, THREE, chosen(said), true) for name in names]
    out = tmp_path / "report.html"
    assert cli.main(["report", *map(str, runs), "-o", str(out), "--markdown"]) == 0
    page = Page(out.read_text())
    assert (page.crossed, page.open) == ([], [])
    assert "test: accuracy 400 rows" in page.text
    assert "one 0.800 0.7" in page.text
    assert "not compared" not in page.text
    assert "that can be compared" not in page.text
    text = out.with_suffix(".md").read_text()
    assert "### test: accuracy, 400 rows" in text
    assert "| one | 0.800 | 0.7" in text
    for width in (390, 1200):
        shown = browser.new_page(viewport={"width": width, "height": 800})
        shown.goto(out.as_uri())
        assert shown.evaluate(WIDER) == []
        assert shown.evaluate(OVERLAP) == []
        shown.close()
