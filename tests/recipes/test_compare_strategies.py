"""recipes/compare_strategies.py: every strategy with every seed, cells that outlive a kill, and a test that is scored once."""

import json

import compare_strategies
import laboratories
import pytest
import tiny_heads

from nlpft import config
from nlpft.errors import ConfigError, DataError
from nlpft.evaluation import head_scores
from nlpft.strategies import _cells

TWO = ["finetune", "head: finetune --train head", "probe_then_finetune"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_heads.save_bert(tmp_path_factory.mktemp("bert"), dropout=0.1)


@pytest.fixture(scope="module")
def labels(tmp_path_factory, bert):
    return tiny_heads.classified(tmp_path_factory.mktemp("labels"), bert, train=40, held_out=12)


def go(bert, labels, run, **more) -> dict:
    return compare_strategies.main(
        laboratories.settings(bert, labels, **{"output_dir": run, "strategies": TWO, **more})
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory, bert, labels):
    run = tmp_path_factory.mktemp("done") / "run"
    return run, go(bert, labels, run)


def test_a_comparison_says_all_of_every_strategy(done):
    run, found = done
    assert json.loads((run / "result.json").read_text()) == found
    assert list(found["strategies"]) == ["finetune", "head", "probe_then_finetune"]
    for one in found["strategies"].values():
        assert list(one["seeds"]) == ["0", "1"]
        assert one["mean"] == pytest.approx(sum(one["seeds"].values()) / 2)
        assert one["low"] <= one["mean"] <= one["high"]
        assert 18 < one["spent"]["steps"] <= 20
    text = (run / "result.md").read_text()
    assert "| head |" in text
    assert "finetune" in text
    assert (run / "scores.png").stat().st_size > 5000
    assert config.load(compare_strategies.Config, run / "config.yaml").strategies == tuple(TWO)


def test_a_killed_comparison_goes_on_and_finished_cells_stay(tmp_path, done, bert, labels, monkeypatch):
    """Killed in its fourth cell; the order of strategies does not matter; of all cells none is run twice."""
    ran, run = [], _cells.run

    def counted(lab, test, plan, seed):
        if len(ran) == 3:
            raise KeyboardInterrupt
        ran.append((plan.label, seed))
        return run(lab, test, plan, seed)

    monkeypatch.setattr(_cells, "run", counted)
    with pytest.raises(KeyboardInterrupt):
        go(bert, labels, tmp_path, strategies=TWO[::-1])
    assert len(list((tmp_path / "cells").iterdir())) == 3
    monkeypatch.setattr(_cells, "run", lambda *words: (ran.append((words[2].label, words[3])), run(*words))[1])
    found = go(bert, labels, tmp_path, strategies=TWO[::-1])
    assert len(ran) == len(set(ran)) == 6
    for label, one in done[1]["strategies"].items():
        assert one["seeds"] == found["strategies"][label]["seeds"]
    go(bert, labels, tmp_path, strategies=[*TWO, "sgd: finetune --optimizer sgd"], against=["head"])
    assert ran[6:] == [("sgd", 0), ("sgd", 1)]


def test_the_test_is_scored_once_a_cell_and_its_cost_is_not_counted(tmp_path, bert, labels, monkeypatch):
    seen, outputs = [], head_scores.outputs

    def watched(accelerator, model, data, cfg):
        seen.append(data.folder)
        return outputs(accelerator, model, data, cfg)

    monkeypatch.setattr(head_scores, "outputs", watched)
    found = go(bert, labels, tmp_path)
    assert seen.count(labels / "test") == 6
    assert seen.count(labels / "eval") == 2 * 9
    assert found["strategies"]["finetune"]["spent"]["forward_rows"] == 3 * 12


def test_other_settings_or_other_data_make_other_cells(tmp_path, done, bert, labels, tmp_path_factory):
    (plan, _) = _cells.plans(TWO[:2])
    other = tiny_heads.classified(tmp_path_factory.mktemp("other"), bert, train=42, held_out=12)
    same = [
        _cells.Kept(tmp_path, laboratories.settings(bert, labels, **more)).file(plan, 0)
        for more in ({}, {"seeds": 7, "output_dir": tmp_path, "strategies": TWO, "against": ["head"]})
    ]
    assert same[0] == same[1]
    changed = [
        _cells.Kept(tmp_path, laboratories.settings(bert, data, **more)).file(plan, 0)
        for data, more in [(labels, {"optim.lr": 0.1}), (labels, {"budget.steps": 21}), (other, {}),
                           (labels, {"data.rows_per_step": 9}), (labels, {"unlabelled": labels / "eval"})]
    ]  # fmt: skip
    assert len({*same, *changed}) == 6


def test_other_comparisons_are_blocks_of_the_ranks(tmp_path, done, bert, labels):
    found = go(bert, labels, tmp_path, join=[done[0] / "result.json"])
    assert (done[1]["ranks"]["blocks"], found["ranks"]["blocks"]) == (2, 4)


def test_tags_are_compared_by_f1_of_spans(tmp_path, bert):
    data = tiny_heads.tagged(tmp_path, bert)
    more = {
        "data.test": data / "eval",
        "objective.name": "tagging",
        "measure": "f1",
        "budget.steps": 120,
        "optim.lr": 0.002,
    }
    found = go(bert, data, tmp_path / "run", **more)
    assert found["strategies"]["finetune"]["mean"] > 0.75
    assert found["items"] == 16


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"seeds": 1}, "at least 2"),
        ({"confidence": 0.4}, "between 0.5 and 1"),
        ({"against": ["plain"]}, "there are finetune, head"),
        ({"budget.steps": 2}, r"budget\.steps 2: .* needs at least"),
        ({"strategies": ["finetune"]}, "at least two"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_trains(tmp_path, bert, labels, more, message):
    with pytest.raises(ConfigError, match=message):
        go(bert, labels, tmp_path / "run", **more)
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_no_result_cannot_be_joined(tmp_path, bert, labels):
    (tmp_path / "result.json").write_text("[]")
    with pytest.raises(DataError, match=r"no result\.json of compare_strategies"):
        go(bert, labels, tmp_path / "run", join=[tmp_path / "result.json"])


def test_a_budget_in_seconds_is_kept(tmp_path, bert, labels):
    found = go(bert, labels, tmp_path, **{"budget.steps": 0, "budget.seconds": 1.0}, strategies=TWO[:2])
    for one in found["strategies"].values():
        assert 0.3 < one["spent"]["seconds"] < 1.1
