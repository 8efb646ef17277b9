"""The map of what a head reads: its points are the features' principal components, its crosses the wrong answers."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_heads
import torch
from head_runs import evaluated
from run_folders import Page, make_bare

from nlpft import cli
from nlpft.data import store
from nlpft.errors import ConfigError
from nlpft.evaluation.report import embeddings, head_plots, svg, write
from nlpft.evaluation.report.heads import Map
from nlpft.models import heads


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_heads.save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def data(tmp_path, bert):
    return tiny_heads.classified(tmp_path, bert) / "test"


def test_the_axes_are_those_of_the_largest_variance():
    draw = np.random.default_rng(0)
    values = draw.normal(size=(50, 3)) * [1.0, 10.0, 3.0]
    points, shares = embeddings.project(values)
    centred = values - values.mean(0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    assert np.abs(points) == pytest.approx(np.abs(centred @ axes[:2].T))
    assert shares == pytest.approx(tuple(sizes[:2] ** 2 / (sizes**2).sum()))
    assert embeddings.project(np.ones((4, 3)))[1] == (0, 0)


@torch.no_grad()
def test_points_are_of_the_states_that_the_head_reads(tmp_path, bert, data):
    run = evaluated(tmp_path / "run", bert, data)
    (found,) = embeddings.with_maps(write.read([run])[0]).maps
    model = heads.trained_head(str(run / "model"), "float32").eval()
    ids = store.read(data, ("input_ids", "target")).column("input_ids").to_pylist()
    states = [model.bert(input_ids=torch.tensor([row])).last_hidden_state[0, 0].numpy() for row in ids]
    wanted, shares = embeddings.project(np.array(states))
    assert np.abs(found.points) == pytest.approx(np.abs(wanted), abs=1e-3)
    assert found.shares == pytest.approx(shares, abs=1e-3)
    samples = [json.loads(line) for line in next((run / "eval/test").glob("samples_*")).open()]
    assert found.names.tolist() == [row["target"] for row in samples]
    assert found.wrong.tolist() == [row["accuracy"] == 0 for row in samples]


def test_words_are_named_by_their_type_and_those_of_none_are_left_out(tmp_path, bert):
    data = tiny_heads.tagged(tmp_path, bert) / "eval"
    (found,) = embeddings.with_maps(write.read([evaluated(tmp_path / "run", bert, data)])[0]).maps
    tags = [tag for row in map(json.loads, next((tmp_path / "run/eval/test").glob("samples_*")).open())
            for tag in row["target"]]  # fmt: skip
    assert set(found.names) == {"place", "person"}
    assert len(found.points) == sum(tag != "O" for tag in tags) < len(tags)


def test_a_map_is_on_the_page_and_among_the_plots(tmp_path, bert, data):
    run = evaluated(tmp_path / "run", bert, data)
    assert cli.main(["report", str(run), "--map", "--no-card", "--plots", str(tmp_path / "plots")]) == 0
    page = Page((run / "report.html").read_text())
    assert (page.crossed, page.open) == ([], [])
    assert "test: features by true label" in page.text
    assert {"map_test.png", "map_test.svg"} <= {path.name for path in (tmp_path / "plots").iterdir()}


def test_beside_the_most_frequent_labels_the_others_are_one():
    names = np.array([f"label {i}" for i in range(8) for _ in range(10 - i)], object)
    draw = np.random.default_rng(0)
    made = Map("test", draw.normal(size=(len(names), 2)), names, draw.random(len(names)) < 0.5, (0.5, 0.2))
    plot = head_plots.embedding_map(made, svg.PRINT)
    assert [key[0] for key in plot.keys] == [*(f"label {i}" for i in range(5)), "others"]
    drawn = sum(len(dots.get_offsets()) for dots in plot.figure.axes[0].collections)
    assert drawn == len(names)
    assert "others" in plot.text
    many = Map("test", np.zeros((9000, 2)), np.array(["a"] * 9000, object), np.zeros(9000, bool), (0.5, 0.2))
    dots = head_plots.embedding_map(many, svg.PRINT).figure.axes[0].collections
    assert sum(len(x.get_offsets()) for x in dots) == head_plots.DOTS


def test_what_lacks_for_a_map_is_said(tmp_path, bert, data, monkeypatch):
    with pytest.raises(ConfigError, match=r"--map: .* has no evaluation of a head"):
        embeddings.with_maps(write.read([make_bare(tmp_path / "bare")])[0])
    run = evaluated(tmp_path / "run", bert, data)
    assert cli.main(["report", str(run), str(tmp_path / "bare"), "--map"]) == 2
    monkeypatch.setattr(embeddings, "choose", lambda *_: SimpleNamespace(packed=False))
    with pytest.raises(ConfigError, match="BertForSequenceClassification takes no rows without padding"):
        embeddings.with_maps(write.read([run])[0])
