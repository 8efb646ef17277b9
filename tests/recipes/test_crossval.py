"""recipes/crossval.py: every row is scored once by a run that has not seen its text, resumes, and compares item by item."""

import json

import crossval
import pytest
import tiny_heads

from nlpft import config
from nlpft.data import store
from nlpft.data.labelled import folds
from nlpft.errors import ConfigError, RunExists
from nlpft.evaluation import compare
from nlpft.training import stages


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_heads.save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def labels(tmp_path_factory, bert):
    return tiny_heads.classified(tmp_path_factory.mktemp("labels"), bert, train=30)


@pytest.fixture(scope="module")
def tags(tmp_path_factory, bert):
    return tiny_heads.tagged(tmp_path_factory.mktemp("tags"), bert)


def words(folder, bert, data, *more, rate=0.001):
    file = folder / f"settings-{rate}.yaml"
    file.write_text(f"model: {bert}\nmax_steps: 4\ndata:\n  train: {data}/train\noptim:\n  lr: {rate}\n")
    return ["--settings", str(file), "--folds", "3", *more]


def go(folder, run, bert, data, *more, **options):
    made = words(folder, bert, data, *more, "--output_dir", str(run), **options)
    return crossval.main(config.parse(crossval.Config, made))


def samples(run):
    return [json.loads(line) for line in (run / "eval/folds/samples_classification.jsonl").open()]


@pytest.fixture(scope="module")
def done(tmp_path_factory, bert, labels):
    folder = tmp_path_factory.mktemp("done")
    return folder / "run", go(folder, folder / "run", bert, labels)


def test_every_row_is_scored_once_by_a_run_that_has_not_seen_its_text(done, labels):
    rows = samples(done[0])
    whole = store.read(labels / "train", folds.NEEDS)
    assert [row["doc_id"] for row in rows] == list(range(30))
    assert [row["doc"]["source"] for row in rows] == whole.column("source").to_pylist()
    for fold in range(3):
        train, test = (store.read(done[0] / f"data/fold-{fold}" / split, folds.NEEDS) for split in ("train", "test"))
        assert not set(train.column("key").to_pylist()) & set(test.column("key").to_pylist())
        assert len(train) + len(test) == 30
        assert {row["doc"]["source"] for row in rows if row["fold"] == f"fold-{fold}"} == set(
            test.column("source").to_pylist()
        )


def test_the_table_has_the_means_of_what_the_folds_say(done):
    run, found = done
    each = [
        json.loads((run / f"fold-{n}/eval/test/results.json").read_text())["results"]["classification"]
        for n in range(3)
    ]
    assert found["accuracy"].values == tuple(one["accuracy,none"] for one in each)
    pooled = json.loads((run / "eval/folds/results.json").read_text())["results"]["classification"]
    assert pooled["accuracy,none"] == pytest.approx(sum(found["accuracy"].values) / 3)
    assert json.loads((run / "folds.json").read_text())["accuracy"]["mean"] == pooled["accuracy,none"]


def test_two_settings_are_compared_item_by_item(done, tmp_path, bert, labels):
    go(tmp_path, tmp_path / "slow", bert, labels, rate=1e-6)
    found = {c.metric: c for c in compare.compare(tmp_path / "slow/eval/folds", done[0] / "eval/folds")}
    assert found["accuracy"].n == 30
    assert found["loss"].difference != 0


def test_folds_that_are_done_are_not_run_again(tmp_path, bert, labels, done, monkeypatch):
    run, began = tmp_path / "run", []
    main = crossval.importlib.import_module("classify").main

    def killed(cfg):
        began.append(cfg.output_dir.name)
        if len(began) == 2:
            raise KeyboardInterrupt
        return main(cfg)

    monkeypatch.setattr("classify.main", killed)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, run, bert, labels)
    with pytest.raises(RunExists):
        go(tmp_path, run, bert, labels)
    found = go(tmp_path, run, bert, labels, "--resume")
    assert began == ["fold-0", "fold-1", "fold-1", "fold-2"]
    assert found == done[1]
    assert len(stages.read(run / "manifest.json")["stages"]) == 3


def test_tags_are_cross_validated_too(tmp_path, bert, tags):
    found = go(tmp_path, tmp_path / "run", bert, tags, "--recipe", "tag")
    assert len(found["f1"].values) == 3
    assert len((tmp_path / "run/eval/folds/samples_tagging.jsonl").read_text().splitlines()) == 16


def test_what_no_fold_could_run_is_refused_at_once(tmp_path, bert, labels):
    made = words(tmp_path, bert, labels, "--output_dir", str(tmp_path / "run"))
    file = tmp_path / "settings-0.001.yaml"
    file.write_text(file.read_text().replace("data:\n", f"data:\n  test: {labels}/test\n"))
    with pytest.raises(ConfigError, match=r"data\.test is set"):
        crossval.main(config.parse(crossval.Config, made))
    assert not (tmp_path / "run").exists()
