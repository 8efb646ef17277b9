"""recipes/policies.py: every policy learns from the same rows, is scored once, and a killed table goes on."""

import json

import classify
import policies
import pytest
import tiny_heads

from nlpft import config
from nlpft.errors import ConfigError, DataError, RunExists
from nlpft.evaluation import sweep


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policies")
    bert = tiny_heads.save_bert(folder / "bert")
    data = tiny_heads.classified(folder, bert)
    (folder / "settings.yaml").write_text(
        f"model: {bert}\nepochs: 1\ndata:\n  train: {data}/train\n  test: {data}/test\n  rows_per_step: 4\n"
    )
    return folder


def go(place, run, *more, **settings):
    fixed = {"settings": place / "settings.yaml", "output_dir": run, "seeds": 2, "least_steps": 3} | settings
    words = [word for name, value in fixed.items() for word in (f"--{name}", str(value))]
    return policies.main(
        config.parse(policies.Config, [*words, "--rows", "8", "0", "--policies", "head_only", "full", *more])
    )


def test_every_policy_learns_from_the_same_rows_and_a_killed_table_goes_on(place, tmp_path, monkeypatch):
    begun, main = [], classify.main

    def killed(cfg):
        begun.append((cfg.data.train, cfg.tuning.name, cfg.seed, cfg.max_steps))
        if len(begun) == 4:
            raise KeyboardInterrupt
        return main(cfg)

    monkeypatch.setattr(classify, "main", killed)
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        go(place, run)
    with pytest.raises(RunExists):
        go(place, run)
    found = go(place, run, "--resume")
    assert len(begun) == 9  # the one that was killed began twice
    assert {(score.rows, score.policy, score.seed) for score in found} == {
        (rows, policy, seed) for rows in (8, 24) for policy in ("head_only", "full") for seed in (0, 1)
    }
    few = {data for data, _, seed, _ in begun if "8-0" in str(data) and seed == 0}
    assert len(few) == 1
    assert {steps for data, *_, steps in begun if "8-" in str(data)} == {3}
    assert {steps for data, *_, steps in begun if data == place / "out/train"} == {6}
    assert not any((run / "runs").iterdir())
    assert (run / "policies.md").read_text().startswith("| rows | head_only | full |")
    assert len((run / "scores.jsonl").read_text().splitlines()) == 8


def test_what_no_run_could_do_is_refused_at_once(place, tmp_path):
    with pytest.raises(ConfigError, match="policies fulll: there are head_only"):
        go(place, tmp_path / "a", "--policies", "fulll")
    with pytest.raises(ConfigError, match="seeds: at least 2"):
        go(place, tmp_path / "b", seeds=1)
    assert not list(tmp_path.iterdir())


def test_a_measure_that_the_runs_have_not_is_named(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps({"results": {"t": {"alias": "t", "accuracy,none": 0.5}}}))
    assert sweep.measured(tmp_path, "accuracy") == 0.5
    with pytest.raises(DataError, match=r"measure f1: .* has accuracy"):
        sweep.measured(tmp_path, "f1")
