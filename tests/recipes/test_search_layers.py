"""recipes/search_layers.py: its scores are those of classify.py's training, it goes on, and the winner is trained anew."""

import json
import shutil

import classify
import pytest
import search_layers
import tiny_heads

from nlpft import config
from nlpft.errors import ConfigError
from nlpft.training import trials

GRID = {"search.name": "grid", "budget": 8, "retrain": 0}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_heads.save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def labels(tmp_path_factory, bert):
    return tiny_heads.classified(tmp_path_factory.mktemp("labels"), bert)


def words(model, data, run, **more) -> list[str]:
    fixed = {"model": model, "output_dir": run, "data.train": data / "train", "data.eval": data / "eval",
             "data.rows_per_step": 5, "optim.lr": 0.001, "optim.warmup": 0, "epochs": 2, **more}  # fmt: skip
    return [word for key, value in fixed.items() for word in (f"--{key}", str(value))]


def searched(bert, labels, run, *more, **settings) -> dict:
    fixed = {"data.test": labels / "test", "search.name": "random", "budget": 4, "retrain": 2, **settings}
    return search_layers.main(config.parse(search_layers.Config, [*words(bert, labels, run, **fixed), *more]))


def test_a_candidate_scores_what_a_run_of_classify_scores(tmp_path, bert, labels):
    """Of a model without dropout, which rests where it is frozen; every mask of two blocks and the embeddings."""
    result = searched(
        bert,
        labels,
        tmp_path / "search",
        "--no_prune",
        **{"search.name": "grid", "budget": 8, "retrain": 0, "probe": 0},
    )
    assert len(result["candidates"]) == 8
    for one in result["candidates"]:
        patterns = [f"*layer.{n}.*" for n in range(2) if not one[f"keep.{n:02}"]]
        patterns += ["*.embeddings.*"] * (not one["keep.embeddings"])
        frozen = [
            "--tuning.name",
            "freeze",
            "--tuning.train_last",
            "0",
            "--tuning.patterns",
            *patterns,
            "bert.pooler.*",
        ]
        run = tmp_path / "".join(str(bit) for name, bit in one.items() if name.startswith("keep."))
        best = classify.main(config.parse(classify.Config, [*words(bert, labels, run), *frozen]))
        assert one["loss"] == pytest.approx(best.loss, rel=1e-4)


def test_a_search_goes_on_and_its_winner_is_trained_with_fresh_seeds(tmp_path, bert, labels):
    first = searched(bert, labels, tmp_path / "run", budget=3)
    again = searched(bert, labels, tmp_path / "run", budget=6)
    assert (first["scored"], again["scored"]) == (3, 6)
    losses = [one["loss"] for one in again["candidates"]]
    assert losses == sorted(losses)
    assert json.loads((tmp_path / "run/result.json").read_text()) == again
    assert list(again["test"]) == ["winner", "all weights, from the probed head"]
    for trained in again["test"].values():
        assert len(set(trained["loss"]["seeds"])) == 2
        assert trained["loss"]["mean"] == pytest.approx(sum(trained["loss"]["seeds"]) / 2)


def test_cost_leads_to_candidates_that_train_less(tmp_path, bert, labels):
    result = searched(
        bert,
        labels,
        tmp_path / "run",
        "--no_prune",
        **{"search.name": "grid", "budget": 8, "cost": 100.0, "retrain": 0},
    )
    assert result["mask"] == "111"
    assert sum(value for name, value in result["candidates"][-1].items() if name.startswith("keep.")) == 0
    trained = [one["trained"] for one in result["candidates"]]
    assert trained == sorted(trained)
    assert trained[0] < trained[-1]
    assert all(one["seconds"] > 0 for one in result["candidates"])


@pytest.mark.parametrize(
    "space",
    [
        ("--space.keep", "none", "--space.ranks", "0", "4", "--space.rank_parts"),
        ("--space.keep", "trained", "--space.least_blocks", "1", "--space.rates", "4"),
        ("--space.keep", "trained", "--space.transplant", "--source", "SOURCE"),
        ("--space.keep", "parts", "--workers", "2"),
    ],
)
def test_all_dimensions_are_searched(space, tmp_path, bert, labels):
    tiny_heads.make_bert(seed=1).save_pretrained(tmp_path / "source")
    more = [str(tmp_path / "source") if word == "SOURCE" else word for word in space]
    result = searched(bert, labels, tmp_path / "run", "--no_prune", *more, budget=3, retrain=0)
    assert result["scored"] in (3, 4)
    assert len({one["loss"] for one in result["candidates"]}) > 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"search.name": "genetic", "budget": 5}, "at least 12"),
        ({"space.keep": "none"}, "empty"),
        ({"source": "elsewhere"}, "give both, or neither"),
        ({"workers": 0}, "workers 0: at least 1"),
        ({"retrain": -1}, "retrain and probe: 0 or more"),
        ({"epochs": -1}, "epochs: above 0"),
        ({"data.test": "None"}, r"data\.test"),
        ({"data.mixup": 0.5}, "rows as they are"),
    ],
)
def test_what_could_not_search_is_refused(more, message, tmp_path, bert, labels):
    with pytest.raises(ConfigError, match=message):
        searched(bert, labels, tmp_path / "run", **more)
    assert not (tmp_path / "run" / "search.db").exists()


def test_another_space_or_another_setting_in_the_same_folder_is_refused(tmp_path, bert, labels):
    fixed = {"budget": 1, "retrain": 0}
    searched(bert, labels, tmp_path / "run", **fixed)
    with pytest.raises(ConfigError, match="another space"):
        searched(bert, labels, tmp_path / "run", **fixed, **{"space.keep": "parts"})
    with pytest.raises(ConfigError, match=r"optim\.lr: 0\.001 then, 0\.01 now"):
        searched(bert, labels, tmp_path / "run", **fixed, **{"optim.lr": 0.01})


def test_other_data_under_the_same_path_is_refused(tmp_path, bert):
    data, fixed = tmp_path / "data", {"budget": 1, "retrain": 0}
    first = tiny_heads.classified(tmp_path, bert)
    first.rename(data)
    searched(bert, data, tmp_path / "run", **fixed)
    searched(bert, data, tmp_path / "run", **fixed)
    shutil.rmtree(data)
    tiny_heads.classified(tmp_path, bert, held_out=10).rename(data)
    with pytest.raises(ConfigError, match="data/train: not the dataset that this search began with"):
        searched(bert, data, tmp_path / "run", **fixed)


def test_fresh_seeds_without_a_probe_are_runs_of_classify_with_those_seeds(tmp_path, bert, labels):
    result = searched(bert, labels, tmp_path / "run", probe=0, budget=1)
    for seed, loss in zip((1, 2), result["test"]["all weights"]["loss"]["seeds"], strict=True):
        own = words(bert, labels, tmp_path / str(seed), **{"seed": seed, "data.eval": labels / "test"})
        assert loss == pytest.approx(classify.main(config.parse(classify.Config, own)).loss, rel=1e-4)


def test_what_was_retrained_is_kept_and_pruned_candidates_are_told(tmp_path, bert, labels, monkeypatch):
    first = searched(bert, labels, tmp_path / "run", budget=8, least_steps=1, retrain=1)
    assert len(first["pruned"]) + len(first["candidates"]) == 8
    assert first["pruned"]
    last = 2 * 5  # epochs of 24 rows, 5 in a step
    for one in first["pruned"]:
        assert 0 < one["step"] < last
        assert one["seconds"] > 0
        assert one["trained"] > 0
    trained = []
    before = trials.fresh
    monkeypatch.setattr(trials, "fresh", lambda *given: trained.append(given[2]) or before(*given))
    again = searched(bert, labels, tmp_path / "run", budget=8, least_steps=1, retrain=2)
    assert trained == [2]
    for name, measures in again["test"].items():
        assert measures["loss"]["seeds"][0] == first["test"][name]["loss"]["mean"]
