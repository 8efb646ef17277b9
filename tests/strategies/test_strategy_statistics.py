"""Comparisons: measures as ratios of sums, intervals over seeds and items, verdicts, ranks, and what is said in plain words."""

import itertools
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

from nlpft.errors import ConfigError
from nlpft.evaluation import head_scores
from nlpft.evaluation.head_scores import Scored
from nlpft.strategies import _cells, _compare, _items, _plots, _result
from nlpft.strategies._cells import Cell
from nlpft.strategies._meter import BudgetConfig
from nlpft.types import Task

TAGS = Task("tagging", ("O", "B-x", "I-x"))


class Settings(NamedTuple):
    name: str = "finetune"


def right(shares: list[float], items: int = 400, seed: int = 0) -> np.ndarray:
    """Counts of accuracy [seeds, 2, items] with these shares of right answers."""
    rng = np.random.default_rng(seed)
    hits = [rng.permutation(np.arange(items) < round(share * items)).astype(float) for share in shares]
    return np.stack([np.stack([hit, np.ones(items)]) for hit in hits])


def found(counts: dict[str, np.ndarray], against: tuple[str, ...] = (), confidence: float = 0.95) -> dict:
    cfg = SimpleNamespace(
        measure="accuracy",
        against=against,
        confidence=confidence,
        resamples=1000,
        join=(),
        budget=BudgetConfig(steps=20),
    )
    spent = {"steps": 20.0, "optimizer_steps": 18, "rows": 1, "forward_rows": 1, "again_rows": 0, "seconds": 1.0}
    curve = [[10.0, 0.4, 1.0], [20.0, 0.6, 0.9]]
    notes = {"curve": curve, "mask": {"keep.00": 1, "keep.01": 0}, "energies": [1.0, 0.5], "temperatures": [None, 0.1]}
    plans = [SimpleNamespace(label=label, settings=BudgetConfig(steps=1)) for label in counts]
    cells = [
        Cell(label, seed, float(own[0].sum() / own[1].sum()), 0.5, own.tolist(), spent, notes)
        for label, some in counts.items()
        for seed, own in enumerate(some)
    ]
    return _result.result(cfg, plans, cells)


def test_f1_of_spans_is_the_ratio_of_sums_and_that_of_the_evaluation():
    rng = np.random.default_rng(0)
    rows = np.repeat(np.arange(12), 5)
    scored = Scored(rng.normal(size=(60, 3)).astype(np.float32), rng.integers(0, 3, 60), rows)
    wanted = head_scores.measures(TAGS, scored)
    assert _items.value(TAGS, scored, "f1", 12) == pytest.approx(wanted["f1"])
    assert _items.value(TAGS, scored, "accuracy", 12) == pytest.approx(wanted["accuracy"])
    assert _items.loss(scored) == pytest.approx(wanted["loss"])


def test_a_row_without_targets_counts_nothing():
    scored = Scored(np.eye(3, dtype=np.float32), np.array([0, 1, 2]), np.array([0, 2, 2]))
    assert _items.counts(TAGS, scored, "accuracy", 3).tolist() == [[1, 0, 2], [1, 0, 2]]
    assert _items.counts(TAGS, scored, "f1", 3).tolist() == [[0, 0, 2], [0, 0, 2]]


def test_intervals_hold_the_true_mean_as_often_as_they_say():
    """Of seeds that differ and items that differ: 8 seeds, 60 items, 200 worlds."""
    rng = np.random.default_rng(0)
    held = 0
    for world in range(200):
        p = 1 / (1 + np.exp(-(0.4 + rng.normal(0, 0.3, (8, 1)) + rng.normal(0, 1, (1, 60)))))
        hits = (rng.random((8, 60)) < p).astype(float)
        counts = {"a": np.stack([hits, np.ones_like(hits)], 1)}
        drawn = _compare.drawn(counts, 400, world)
        summary = _compare.summaries(counts, drawn, 0.9)["a"]
        held += summary.low <= 0.5855 <= summary.high  # the mean of p over such worlds
    assert 0.87 <= held / 200 <= 0.99


def test_only_a_clear_difference_is_called_better():
    same = found({"a": right([0.5] * 5), "b": right([0.5] * 5, seed=1), "c": right([0.8] * 5, seed=2)})
    assert [d["verdict"] for d in same["differences"]] == ["no difference shown", "better"]
    worse = found({"c": right([0.8] * 5, seed=2), "a": right([0.5] * 5)})
    assert [d["verdict"] for d in worse["differences"]] == ["worse"]


def test_five_seeds_with_small_and_equal_signs_prove_little():
    """All seeds favour b, by chance one time in 16: the bootstrap alone would call it better, Student's t does not."""
    counts = {"a": right([0.5] * 5), "b": right([0.501, 0.55, 0.51, 0.505, 0.56], seed=1)}
    assert [d["verdict"] for d in found(counts, confidence=0.99)["differences"]] == ["no difference shown"]
    tight = {"a": right([0.5] * 5), "b": right([0.6, 0.601, 0.6, 0.602, 0.6], items=400, seed=1)}
    assert found(tight)["differences"][0]["low"] < 0.1


def test_one_lucky_seed_is_no_difference():
    lucky = {"a": right([0.5] * 5), "b": right([0.48, 0.49, 0.5, 0.47, 0.9], seed=1)}
    assert [d["verdict"] for d in found(lucky)["differences"]] == ["no difference shown"]


def test_more_comparisons_ask_for_wider_intervals():
    counts = {"a": right([0.5] * 5), "b": right([0.55] * 5, seed=1)}
    more = {**counts, **{f"x{n}": right([0.5] * 5, seed=3 + n) for n in range(8)}}
    few, many = (found(some)["differences"][0] for some in (counts, more))
    assert few["mean"] == pytest.approx(many["mean"])
    assert many["low"] < few["low"] < few["high"] < many["high"]


def test_ranks_are_those_of_the_blocks():
    ranks = _compare.ranks([{"a": 0.9, "b": 0.8, "c": 0.7}] * 6)
    assert ranks.mean == {"a": 1, "b": 2, "c": 3}
    assert ranks.friedman == pytest.approx(np.exp(-6))  # chi squared 12 with 2 degrees of freedom
    assert ranks.nemenyi["a"]["c"] < 0.01 < 0.1 < ranks.nemenyi["a"]["b"]


def test_equal_strategies_have_equal_ranks_and_two_have_none():
    ranks = _compare.ranks([{"a": 0.5, "b": 0.5, "c": 0.5}] * 4)
    assert (ranks.friedman, ranks.mean["b"], ranks.nemenyi["a"]["c"]) == (1, 2, 1)
    assert _compare.ranks([{"a": 1.0, "b": 0.5}] * 5) is None


def test_the_text_says_plainly_what_does_not_beat_what():
    counts = {"all": right([0.5] * 5), "random": right([0.5] * 5, seed=1), "genetic": right([0.5] * 5, seed=2),
              "good": right([0.8] * 5, seed=3), "bad": right([0.2] * 5, seed=4)}  # fmt: skip
    text = "\n".join(_result.lines(found(counts, ("all", "random"))))
    assert "- Better than all: good.\n" in text
    assert "- Does not beat all (no difference shown): random, genetic.\n" in text
    assert "- Worse than random: bad.\n" in text
    assert "- Does not beat random (no difference shown): all, genetic.\n" in text
    assert "| good | 80.0 |" in text
    alone = "\n".join(_result.lines(found({"all": right([0.5] * 5), "b": right([0.5] * 5, seed=1)})))
    assert "- Nothing beats all.\n" in alone


def test_what_to_compare_with_must_be_compared():
    with pytest.raises(ConfigError, match=r"against 'randm'.*there are a, b"):
        found({"a": right([0.5] * 2), "b": right([0.5] * 2)}, ("randm",))
    with pytest.raises(ConfigError, match="it lacks b"):
        _compare.blocks({"a": {"0": 1.0}}, ["a", "b"], "there.json")


def test_a_missing_package_is_named_before_anything_trains(monkeypatch):
    monkeypatch.setattr(_compare, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install \"nlpft\[search\]\""):
        _compare.check()


def test_the_best_score_so_far_never_falls_and_begins_with_the_first():
    curve = [[2.0, 0.5, 1.0], [4.0, 0.4, 1.0], [6.0, 0.7, 1.0]]
    best = _plots.best_so_far(curve, np.array([1.0, 2.0, 5.0, 6.0, 9.0]))
    assert np.isnan(best[0])
    assert best[1:].tolist() == [0.5, 0.5, 0.7, 0.7]


def test_figures_show_what_was_told_and_only_that():
    whole = found({"a": right([0.5] * 2), "b": right([0.5] * 2)})
    assert set(_plots.figures(whole)) == {"scores", "masks", "energies"}
    (image,) = _plots.masks(whole).axes[0].images
    assert image.get_array().tolist() == [[1, 0], [1, 0]]
    for one in whole["strategies"].values():
        one["notes"] = {seed: {"curve": notes["curve"]} for seed, notes in one["notes"].items()}
    assert set(_plots.figures(whole)) == {"scores"}


def test_labels_are_what_stands_before_the_colon():
    plans = _cells.plans(["finetune", "top down: finetune --train top_down"])
    assert [(plan.label, plan.settings.train) for plan in plans] == [("finetune", "all"), ("top down", "top_down")]
    assert all(a.module is b.module for a, b in itertools.pairwise(plans))
