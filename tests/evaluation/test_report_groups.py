"""Gaps between groups: measures by a column of the labelled file, equal to those of the group alone; what cannot be is said."""

import numpy as np
import pytest
import tiny_heads
from run_folders import Page, make_bare

from nlpft import cli
from nlpft.data.examples import Examples
from nlpft.errors import ConfigError, DataError
from nlpft.evaluation import head_scores
from nlpft.evaluation.head_scores import Scored
from nlpft.evaluation.report import groups, markdown, write
from nlpft.types import Layout, Task

pytest.importorskip("fairlearn", reason='pip install "nlpft[heads]"')
TASK = Task("single_label_classification", ("no", "yes"))
PLACE = ["north"] * 12 + ["south"] * 8
TRUE = np.array([0, 1] * 10)
SAID = np.array([0, 1] * 6 + [1, 0] * 3 + [0, 1])  # north: all right; south: 2 of 8


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose test rows came from rows.csv, lines 2 to 21."""
    monkeypatch.chdir(tmp_path)
    lines = [f"text {i},{TRUE[i]},{place},{i}" for i, place in enumerate(PLACE)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label,place,number", *lines]) + "\n")
    table = tiny_heads.table([[2, 3]] * 20, target=TRUE.tolist(), source=[f"rows.csv:{i + 2}" for i in range(20)])
    data = Examples(None, Layout(True, "first"), table=table)
    scored = Scored(np.eye(2, dtype=np.float32)[SAID], TRUE, np.arange(20))
    run = make_bare(tmp_path / "run")
    head_scores.write(run / "eval/test", "classification", TASK, scored, data, {"label": "test"})
    return run


def test_each_group_has_the_measures_of_its_own_rows(run):
    found = groups.gaps(run / "eval/test", "place")
    assert [(g.name, g.rows) for g in found.groups] == [("north", 12), ("south", 8)]
    by_name = {name: [g.values[i] for g in found.groups] for i, name in enumerate(found.measures)}
    assert by_name["accuracy"] == [1.0, 0.25]
    assert by_name["f1"] == pytest.approx([1.0, 0.25])
    assert by_name["loss"][0] == pytest.approx(np.log(1 + np.exp(-1)))
    assert dict(zip(found.measures, found.gaps, strict=True))["accuracy"] == 0.75


def test_a_gap_that_chance_would_give_is_told_from_one_that_it_would_not():
    right = np.array([1.0] * 12 + [0.0] * 6 + [1.0] * 2)
    assert groups._chance(right, PLACE) < 0.01
    assert groups._chance(right, ["a", "b"] * 10) > 0.3


def test_the_gap_stands_on_the_page_and_in_markdown(run):
    found = groups.with_gaps(write.read([run])[0], "place")
    assert "| gap |  | 0.750 (p 0.0" in markdown.render(found)
    page = Page(write.write_report([found], run / "report.html").read_text())
    assert (page.crossed, page.open) == ([], [])
    assert "test by place" in page.text
    assert "north 12 1.000" in page.text
    assert cli.main(["report", str(run), "--groups", "place"]) == 0


def test_an_empty_cell_is_a_group_of_its_own(run):
    file = run.parent / "rows.csv"
    file.write_text(file.read_text().replace("north,0\n", ",0\n"))
    assert [g.name for g in groups.gaps(run / "eval/test", "place").groups] == ["(none)", "north", "south"]


def test_what_makes_no_groups_is_said(run, monkeypatch):
    with pytest.raises(DataError, match=r"rows\.csv: no column 'plaec'.*text, label, place, number"):
        groups.gaps(run / "eval/test", "plaec")
    monkeypatch.setattr(groups, "MOST", 5)
    with pytest.raises(DataError, match="20 values, at most 5"):
        groups.gaps(run / "eval/test", "number")
    file = run.parent / "rows.csv"
    file.write_text("\n".join(file.read_text().splitlines()[:10]) + "\n")
    with pytest.raises(DataError, match=r"rows\.csv:11: no such row"):
        groups.gaps(run / "eval/test", "place")
    file.unlink()
    with pytest.raises(DataError, match="work in the folder where nlpft label did"):
        groups.gaps(run / "eval/test", "place")
    with pytest.raises(ConfigError, match="has no evaluation of a head"):
        groups.with_gaps(write.read([make_bare(run.parent / "bare")])[0], "place")
