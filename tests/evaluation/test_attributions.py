"""Attributions: exact where the model is linear, complete where it is not, shown for right and wrong rows; what lacks is said."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_heads
import torch
from head_runs import evaluated
from run_folders import Page, make_bare
from test_report_browser import WIDER, browser  # noqa: F401 - a fixture
from torch import nn

from nlpft import cli
from nlpft.data.examples import Examples
from nlpft.errors import ConfigError, DataError
from nlpft.evaluation import attributions
from nlpft.evaluation.attributions import Margin
from nlpft.evaluation.report import attributed, markdown, write
from nlpft.models import heads
from nlpft.models.head_forward import logits
from nlpft.types import Task

pytest.importorskip("captum", reason='pip install "nlpft[heads]"')
NONE = np.zeros(3, bool)


class Bag(nn.Module):
    """Logits are sums over tokens of a function of their embeddings."""

    def __init__(self, bend=lambda x: x):
        super().__init__()
        self.embeddings, self.bend = nn.Embedding(10, 2), bend
        self.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(pad_token_id=0))

    def get_input_embeddings(self):
        return self.embeddings

    def forward(self, input_ids, attention_mask):
        return SimpleNamespace(logits=self.bend(self.embeddings(input_ids)).sum(1))


def batch(ids):
    ids = torch.tensor([ids])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "positions": torch.tensor([0])}


def test_a_linear_models_tokens_add_what_they_differ_from_padding_in():
    model = Bag().eval()
    found = attributions.attribute(model, batch([4, 5, 6]), NONE, Margin(0, 1, 0))
    table = model.embeddings.weight.detach()
    wanted = (table[[4, 5, 6], 1] - table[0, 1]) - (table[[4, 5, 6], 0] - table[0, 0])
    assert found.tokens == pytest.approx(wanted.numpy(), abs=1e-5)
    assert found.margin == pytest.approx(float((table[[4, 5, 6], 1] - table[[4, 5, 6], 0]).sum()), abs=1e-5)
    assert abs(found.gap) < 1e-5


def test_special_tokens_stay_and_add_nothing():
    found = attributions.attribute(Bag().eval(), batch([4, 5, 6]), np.array([True, False, True]), Margin(0, 1))
    assert found.tokens[[0, 2]].tolist() == [0, 0]
    assert found.tokens[1] != 0


def test_steps_grow_until_the_gap_is_small():
    model = Bag(lambda x: torch.tanh(40 * x)).eval()
    with torch.no_grad():
        model.embeddings.weight.copy_(torch.linspace(-2, 2, 20).reshape(10, 2))
    found = attributions.attribute(model, batch([4, 5, 6]), NONE, Margin(0, 1))
    assert found.steps > attributions.FIRST
    assert abs(found.gap) <= attributions.SMALL * abs(found.difference)
    assert found.gap == pytest.approx(found.tokens.sum() - found.difference)


THREE = Task("single_label_classification", ("a", "b", "c"))
SEVERAL = Task("multi_label_classification", ("a", "b", "c"))


@pytest.mark.parametrize(
    ("task", "target", "logits", "wanted"),
    [
        (THREE, "a", [[3.0, 1.0, 2.0]], Margin(0, 0, 2)),
        (THREE, "b", [[3.0, 1.0, 2.0]], Margin(0, 0, 1)),
        (SEVERAL, ["a"], [[1.0, -4.0, -2.0]], Margin(0, 1)),
        (SEVERAL, ["a", "c"], [[1.0, -4.0, -2.0]], Margin(0, 2)),
        (Task("regression"), 1.5, [[2.0]], Margin(0, 0)),
        (tiny_heads.TAGS, ["O", "B-x", "O"], [[2.0, 0, 0], [0, 2.0, 1.0], [0.0, 0.0, 3.0]], Margin(2, 2, 0)),
        (tiny_heads.TAGS, ["O", "B-x", "O"], [[2.0, 0, 0], [0, 2.0, 1.0], [3.0, 0.0, 0.0]], Margin(1, 1, 2)),
    ],
)
def test_the_margin_is_over_the_true_label_where_it_is_wrong_and_else_over_the_next_best(task, target, logits, wanted):
    assert attributed.margin(task, {"target": target}, np.array(logits)) == wanted


def test_wrong_rows_of_the_largest_loss_and_right_ones_from_all_over_are_chosen():
    rows = [{"accuracy": float(i % 3 > 0), "loss_sum": float(i), "tokens": 1} for i in range(30)]
    assert attributed.choose(rows, 6) == [27, 24, 21, 1, 16, 29]
    assert attributed.choose(rows[:1], 4) == [0]
    few = [{**row, "accuracy": 1.0} for row in rows]
    assert attributed.choose(few, 2) == [0, 29]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_heads.save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def run(tmp_path, bert):
    data = tiny_heads.classified(tmp_path, bert) / "test"
    return evaluated(tmp_path / "run", bert, data)


def test_rows_are_on_the_page_with_their_gap_and_in_markdown(run):
    assert cli.main(["report", str(run), "--attributions", "4", "--markdown", "--no-card"]) == 0
    page = Page((run / "report.html").read_text())
    assert (page.crossed, page.open) == ([], [])
    assert page.text.count("the tokens add up to") == 4
    coloured = [
        attrs["style"] for tag, attrs in page.tags if tag == "span" and attrs.get("class") in ("for", "against")
    ]
    assert coloured.count("--w:60%") >= 4 + 2  # the strongest of each row, and the legend
    assert "| row | says | is | tokens that add most | all | gap |" in (run / "report.md").read_text()


def test_every_coloured_token_is_seen_in_its_colour(browser, run):  # noqa: F811
    assert cli.main(["report", str(run), "--attributions", "6", "--no-card"]) == 0
    for width in (390, 1200):
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.goto((run / "report.html").as_uri())
        found = page.evaluate(
            """() => [...document.querySelectorAll(".adds span.for, .adds span.against")].filter(
                e => parseFloat(e.style.getPropertyValue("--w")) >= 5
            ).map(e => getComputedStyle(e).backgroundColor)"""
        )
        assert len(found) >= 6
        assert "rgba(0, 0, 0, 0)" not in found
        assert page.evaluate(WIDER) == []
        page.close()


def test_what_the_tokens_add_is_of_the_answer_that_was_scored(run):
    found = attributed.with_attributions(write.read([run])[0], 6).attributed[0]
    samples = {row["doc"]["source"]: row for row in map(json.loads, next((run / "eval/test").glob("*.jsonl")).open())}
    assert {r.right for r in found.rows} == {True, False}
    for r in found.rows:
        sample = samples[r.place]
        said, other = (sample["logits"][("no", "yes").index(name)] for name in (r.said, r.against))
        assert (r.said, r.true) == (sample["resps"][0][0], sample["target"])
        assert r.found.margin == pytest.approx(said - other, abs=1e-3)
        assert abs(r.found.gap) <= max(attributions.SMALL * abs(r.found.difference), attributions.ROUNDING)
        assert [p.text.strip() for p in r.parts if p.special] == ["[CLS]", "[SEP]"]
        assert sum(p.adds for p in r.parts) == pytest.approx(r.found.tokens.sum())


def test_a_word_that_is_tagged_is_named(tmp_path, bert):
    data = tiny_heads.tagged(tmp_path, bert) / "eval"
    labels = json.loads((data / "nlpft.json").read_text())["label_names"]
    run = evaluated(tmp_path / "run", bert, data)
    found = attributed.with_attributions(write.read([run])[0], 4)
    model = heads.trained_head(str(run / "model"), "float32").eval()
    rows = Examples(data, attributed.layout(model))
    for r in found.attributed[0].rows:
        assert r.word in "".join(p.text for p in r.parts).split()
        own = logits(model, rows.batch([rows.places(range(len(rows))).index(r.place)])).detach().numpy()
        margins = own[:, labels.index(r.said)] - own[:, labels.index(r.against)]
        assert np.isclose(margins, r.found.margin, atol=1e-4).any()  # of a word, not of the special tokens around
    assert f"{r.word}: {r.said}" in markdown.render(found)


def test_a_decoders_tokens_add_up_too(tmp_path, tiny_folder):
    data = tiny_heads.classified(tmp_path, tiny_folder) / "test"
    run = evaluated(tmp_path / "run", tiny_folder, data)
    for r in attributed.with_attributions(write.read([run])[0], 2).attributed[0].rows:
        assert abs(r.found.gap) <= max(attributions.SMALL * abs(r.found.difference), attributions.ROUNDING)
        assert any(p.adds for p in r.parts)


def test_what_lacks_for_attributions_is_said(run, monkeypatch, tmp_path):
    assert cli.main(["report", str(run), "--attributions", "-1"]) == 2
    assert cli.main(["report", str(run), str(run), "--attributions", "1"]) == 2
    one = write.read([run])[0]
    with pytest.raises(ConfigError, match="no evaluation of a head"):
        attributed.with_attributions(write.read([make_bare(tmp_path / "bare")])[0], 2)
    samples = next((run / "eval/test").glob("*.jsonl"))
    samples.write_text(samples.read_text().replace("test.tsv:2", "test.tsv:1"))
    with pytest.raises(DataError, match="holds other rows than test was scored on"):
        attributed.with_attributions(one, 2)
    results = run / "eval/test/results.json"
    results.write_text(results.read_text().replace(str(tmp_path), "/gone"))
    with pytest.raises(DataError, match=r"--attributions reads the dataset: work in the folder"):
        attributed.with_attributions(one, 2)
    monkeypatch.setattr(attributions, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'pip install "nlpft\[heads\]"'):
        attributed.with_attributions(one, 2)
