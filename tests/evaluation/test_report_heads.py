"""What the report says of heads: counts by hand, seqeval's spans, calibration before and after, on the page and in Markdown."""

import json

import numpy as np
import pytest
import tiny_heads
from run_folders import EVIL, Page, make_bare, train_line
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from nlpft import cli
from nlpft.data.examples import Examples
from nlpft.errors import DataError
from nlpft.evaluation import head_scores
from nlpft.evaluation.head_scores import Scored
from nlpft.evaluation.report import heads, write
from nlpft.types import Layout, Task

DRAW = np.random.default_rng(0)
THREE = Task("single_label_classification", ("a", "b", EVIL))
SEVERAL = Task("multi_label_classification", ("a", "b", "c"))
LOGITS, TRUE = DRAW.normal(size=(60, 3)).astype(np.float32), DRAW.integers(0, 3, 60)


def evaluated(run, task, logits, targets, rows=None, label="test"):
    """What a recipe leaves of an evaluation."""
    rows = np.arange(len(targets)) if rows is None else rows
    data = Examples(
        None,
        Layout(True, "first"),
        table=tiny_heads.table([[2, 3]] * (int(rows.max()) + 1), target=[0] * (int(rows.max()) + 1)),
    )
    folder = run / "eval" / label
    head_scores.write(folder, "classification", task, Scored(logits, targets, rows), data, {"label": label})
    return folder


@pytest.fixture
def run(tmp_path):
    return make_bare(tmp_path / "run")


@pytest.fixture
def three(run):
    """A run of a head with three labels, too sure of itself by a factor of two."""
    evaluated(run, THREE, LOGITS, TRUE)
    (run / "model").mkdir()
    (run / "model/nlpft.json").write_text(json.dumps({"base": "tiny", "temperature": 2.0}))
    lines = [
        {
            "kind": "eval",
            "step": s,
            "loss": 1.0,
            "targets": 60,
            "best": True,
            "accuracy": 0.5 + s / 100,
            "f1": 0.4,
            "calibration_error": 0.1,
        }
        for s in (5, 10)
    ]
    (run / "metrics.jsonl").write_text(train_line(1) + train_line(10) + "".join(json.dumps(x) + "\n" for x in lines))
    return run


def test_classes_and_confusions_are_scikit_learns(three):
    (found,) = write.read([three])[0].heads
    said = LOGITS.argmax(1)
    assert found.confusion.tolist() == confusion_matrix(TRUE, said).tolist()
    wanted = precision_recall_fscore_support(TRUE, said)
    assert np.allclose([[c.precision, c.recall, c.f1, c.true] for c in found.classes], np.array(wanted).T)
    macro = precision_recall_fscore_support(TRUE, said, average="macro")[:3]
    assert np.allclose(found.means[0][3:], macro)
    true, said, rows = found.confused[0]
    off = found.confusion - np.diag(np.diag(found.confusion))
    assert rows == off.max() == found.confusion[THREE.labels.index(true), THREE.labels.index(said)]


def test_calibration_is_shown_before_and_after_the_temperature(three):
    (found,) = write.read([three])[0].heads
    before, after = found.confidences
    recorded = json.loads((three / "eval/test/results.json").read_text())["results"]["classification"]
    assert before.error == pytest.approx(recorded["calibration_error,none"], abs=1e-4)
    assert (before.temperature, after.temperature) == (1.0, 2.0)
    assert max(b.confidence for b in after.bins) < max(b.confidence for b in before.bins)
    assert sum(b.rows for b in after.bins) == 60


def test_a_model_that_was_not_calibrated_has_one_curve(three):
    (three / "model/nlpft.json").unlink()
    assert len(write.read([three])[0].heads[0].confidences) == 1


def test_labels_of_which_rows_have_several_are_counted_each(run):
    true = DRAW.integers(0, 2, (40, 3)).astype(np.float32)
    folder = evaluated(run, SEVERAL, LOGITS[:40], true)
    found = heads.scores(folder)
    wanted = precision_recall_fscore_support(true, LOGITS[:40] > 0)
    assert np.allclose([[c.precision, c.recall, c.f1, c.true] for c in found.classes], np.array(wanted).T)
    for mean, name in zip(found.means, ("micro", "macro"), strict=True):
        assert np.allclose(mean[3:], precision_recall_fscore_support(true, LOGITS[:40] > 0, average=name)[:3])


def test_tags_are_counted_as_spans_by_type(run):
    task = Task("tagging", ("O", "B-x", "I-x", "B-y"))
    true, said = np.array([1, 2, 0, 3, 1]), np.array([1, 2, 3, 3, 0])
    folder = evaluated(run, task, np.eye(4, dtype=np.float32)[said], true, np.array([0, 0, 0, 0, 2]))
    found = heads.scores(folder)
    assert [c[:5] for c in found.classes] == [("x", 2, 1, 1.0, 0.5), ("y", 1, 2, 0.5, 1.0)]
    assert found.means[0].f1 == pytest.approx(dict(found.values)["f1"]) == pytest.approx(2 / 3)


def test_page_shows_what_the_head_says_and_asks_for_no_base(three):
    html = write.write_report(write.read([three]), three / "report.html").read_text()
    page = Page(html)
    assert (page.crossed, page.open) == ([], [])
    assert "<script" not in html
    said = page.text
    accuracy = (LOGITS.argmax(1) == TRUE).mean()
    assert f"test : accuracy {accuracy:.3f}, f1" in said
    assert "on 60 rows" in said
    assert "nlpft eval" not in said
    assert "targets learnt 600" in said
    titles = [attrs["aria-label"].split(":")[0] for tag, attrs in page.tags if tag == "figure"]
    assert titles[0] == "Confusion matrix of test. Most frequent confusions"
    assert {"Measures on held-out rows", "Held-out calibration error", "Loss, nats/target"} <= set(titles)


def test_markdown_and_plots_hold_the_same(three, tmp_path):
    words = ["report", str(three), "--markdown", "--plots", str(tmp_path / "plots")]
    assert cli.main(words) == 0
    text = (three / "report.md").read_text()
    (found,) = write.read([three])[0].heads
    counts = " | ".join(map(str, found.confusion[0]))
    assert f"| a | {counts} |" in text
    assert f"| ECE, T = 2 | {found.confidences[1].error:.4f} |" in text
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert {
        f"{name}.{kind}" for name in ("confusion_test", "reliability_test", "measures") for kind in ("png", "svg")
    } <= names
    card = (three / "model/README.md").read_text()
    assert "pipeline_tag: text-classification" in card
    assert "nlpft predict" in card


def test_damaged_results_are_said(three):
    (three / "eval/test/results.json").write_text("{")
    with pytest.raises(DataError, match=r"results\.json: not JSON"):
        write.read([three])


def test_damaged_samples_are_said(three):
    path = three / "eval/test/samples_classification.jsonl"
    path.write_text(path.read_text().replace('"logits"', '"digits"'))
    with pytest.raises(DataError, match=r"test: its samples are damaged.*evaluate again"):
        write.read([three])
