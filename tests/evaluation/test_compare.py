"""Two evaluations of the same items: the statistics are right, and what cannot be compared is refused."""

import json

import numpy as np
import pytest
from scipy import stats

from nlpft import cli
from nlpft.errors import ConfigError, DataError
from nlpft.evaluation import compare as paired


def row(doc_id, metrics, answer="yes", **more):
    hashes = {"doc_hash": f"d{doc_id}", "prompt_hash": f"p{doc_id}", "target_hash": f"t{doc_id}"}
    said = {"resps": [[answer]], "filtered_resps": [answer], "filter": "none", "target": "yes", "doc": {}}
    return {"doc_id": doc_id, **hashes, **said, "metrics": list(metrics), **metrics, **more}


def evaluation(label, task="t", higher=True, **values):
    """One task, a metric for each keyword: values [items]."""
    rows = [
        row(i, dict(zip(values, items, strict=True)), answer=f"{label} {i}")
        for i, items in enumerate(zip(*values.values(), strict=True))
    ]
    results = {"higher_is_better": {task: dict.fromkeys(values, higher)}, "nlpft": {"label": label}}
    return paired.Evaluation(label, results, {(task, "none"): {r["doc_id"]: r for r in rows}})


def losses(label, sums, tokens):
    """A task of which only the loss is known."""
    rows = [row(i, {}, loss_sum=s, tokens=t) for i, (s, t) in enumerate(zip(sums, tokens, strict=True))]
    return paired.Evaluation(label, {}, {("t", "none"): dict(enumerate(rows))})


def write(folder, rows, task="t"):
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps({"nlpft": {"label": folder.name}}))
    (folder / f"samples_{task}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder


def false_alarms(draw, runs=300, items=60):
    """Shares of comparisons of a model with itself, asked twice, in which p is at most 5 %, and the 95 % interval lacks 0."""
    found = np.zeros(2)
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        c = paired.compare(evaluation("a", m=draw(rng, items)), evaluation("b", m=draw(rng, items)), resamples=300)[0]
        found += c.p_value <= 0.05, not c.low <= 0 <= c.high
    return found / runs


def test_equal_models_of_real_scores_differ_one_time_in_twenty():
    p, interval = false_alarms(lambda rng, n: rng.gamma(2.0, size=n).tolist())
    assert p == pytest.approx(0.05, abs=0.02)
    assert interval == pytest.approx(0.067, abs=0.02)  # percentile intervals of 60 items are a little short: 3,000 runs


def test_equal_models_of_right_and_wrong_differ_at_most_one_time_in_twenty():
    p, interval = false_alarms(lambda rng, n: (rng.random(n) < 0.5).astype(float).tolist())
    assert 0.005 < p <= 0.05  # exact McNemar keeps below its level: with some 30 items that differ, at 4 %
    assert interval == pytest.approx(0.05, abs=0.02)


def test_interval_holds_the_true_difference_as_often_as_it_says():
    truth, runs, held = 0.1, 250, 0
    for seed in range(runs):
        gains = np.random.default_rng(seed).normal(truth, 1.0, 80)
        c = paired.compare(evaluation("a", m=[0.0] * 80), evaluation("b", m=gains.tolist()), 0.9, resamples=300)[0]
        held += c.low <= truth <= c.high
    assert held / runs == pytest.approx(0.9, abs=0.035)


@pytest.mark.parametrize(("higher", "verdict"), [(True, "better"), (False, "worse")])
def test_planted_difference_is_found_and_named_by_what_is_better(higher, verdict):
    base = [0.0] * 40 + [1.0] * 60
    other = [1.0] * 20 + [0.0] * 20 + [1.0] * 60
    c = paired.compare(evaluation("a", higher=higher, m=base), evaluation("b", higher=higher, m=other))[0]
    assert (c.verdict, c.n, c.base, c.other, c.difference) == (verdict, 100, 0.6, 0.8, pytest.approx(0.2))
    assert (c.other_only, c.base_only) == ((20, 0) if higher else (0, 20))
    assert c.p_value == c.p_adjusted == pytest.approx(2 / 2**20)


def test_interval_is_scipys():
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=90), rng.normal(0.3, size=90)
    c = paired.compare(evaluation("a", m=a.tolist()), evaluation("b", m=b.tolist()), 0.9)[0]
    reference = stats.bootstrap(
        (a, b),
        lambda x, y, axis: y.mean(axis) - x.mean(axis),
        paired=True,
        n_resamples=10_000,
        confidence_level=0.9,
        method="percentile",
        rng=0,
    )
    assert (c.low, c.high) == pytest.approx(tuple(reference.confidence_interval), rel=1e-9)


def test_detectable_difference_is_detected_four_times_in_five():
    rng = np.random.default_rng(0)
    gains = stats.zscore(rng.normal(size=200)).tolist()
    size = paired.compare(evaluation("a", m=[0.0] * 200), evaluation("b", m=gains))[0].detectable
    found = stats.ttest_1samp(rng.normal(size, 1.0, (1000, 200)), 0, axis=1).pvalue <= 0.05
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


def test_loss_is_the_ratio_of_sums_and_rows_are_drawn_with_their_tokens():
    sums, tokens = np.array([10.0, 3.0, 8.0, 90.0] * 10), np.array([10, 1, 4, 100] * 10)
    after = sums - np.array([1.0, -1.0, 2.0, 30.0] * 10)
    c = paired.compare(losses("a", sums, tokens.tolist()), losses("b", after, tokens.tolist()))[0]
    assert (c.metric, c.base, c.other) == ("loss", sums.sum() / tokens.sum(), after.sum() / tokens.sum())
    drawn = np.random.default_rng(0).integers(0, 40, (10_000, 40))
    ratios = (after - sums)[drawn].sum(1) / tokens[drawn].sum(1)
    assert (c.low, c.high) == pytest.approx(tuple(np.percentile(ratios, [2.5, 97.5])), rel=1e-6)
    assert c.verdict == "better"


def test_mcnemar_is_exact():
    by_hand = 2 * (1 + 12 + 66) / 2**12  # twelve items changed, two of them in one direction
    assert paired.mcnemar(2, 10) == pytest.approx(by_hand)
    assert paired.mcnemar(2, 10) == stats.binomtest(2, 12, 0.5).pvalue
    assert paired.mcnemar(0, 0) == 1.0


def test_sign_flip_is_scipys_permutation_test():
    gains = np.array([0.9, -0.1, 0.7, 0.4, 1.2, -0.3, 0.8, 0.2, 0.5])
    exact = stats.permutation_test((gains,), np.sum, permutation_type="samples", n_resamples=2**9).pvalue
    assert paired.sign_flip(gains, resamples=50_000) == pytest.approx(exact, abs=0.003)


def test_holm_by_hand():
    assert paired.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert paired.holm([0.6, 0.9]) == [1.0, 1.0]
    assert paired.holm([]) == []


def test_one_small_p_among_many_measures_is_not_called_better():
    rng = np.random.default_rng(3)
    noise = {f"m{i}": rng.normal(size=50) for i in range(9)}
    zeros = dict.fromkeys(["small", *noise], [0.0] * 50)
    small = rng.normal(0.0, 1.0, 50)
    small += 0.31 - small.mean()
    compared = paired.compare(
        evaluation("a", **zeros), evaluation("b", small=small.tolist(), **{k: v.tolist() for k, v in noise.items()})
    )
    assert compared[0].p_value < 0.05 < compared[0].p_adjusted
    assert compared[0].low > 0
    assert compared[0].verdict == "no difference shown"


@pytest.mark.parametrize("key", ["doc_hash", "prompt_hash", "target_hash"])
def test_other_questions_are_refused(key):
    a, b = evaluation("a", m=[0.0, 1.0]), evaluation("b", m=[0.0, 1.0])
    b.samples["t", "none"][1][key] = "another"
    with pytest.raises(DataError, match=f"t: item 1 is another .* in b than in a .{key} differs"):
        paired.compare(a, b)


def test_items_of_only_one_are_refused_with_their_counts():
    with pytest.raises(DataError, match="2 in both, 1 only in a, 0 only in b"):
        paired.compare(evaluation("a", m=[0.0, 1.0, 1.0]), evaluation("b", m=[0.0, 1.0]))


def test_another_tokenizer_is_refused():
    with pytest.raises(DataError, match="number of tokens"):
        paired.compare(losses("a", [1.0, 2.0], [1, 2]), losses("b", [1.0, 2.0], [1, 3]))


def test_no_common_task_is_refused():
    with pytest.raises(DataError, match="no task in common: a has t, b has u"):
        paired.compare(evaluation("a", m=[0.0]), evaluation("b", task="u", m=[0.0]))


def test_what_is_not_compared_is_said():
    a, b = evaluation("a", f1=[[0, 1], [1, 1]], acc=[1, 0]), evaluation("b", f1=[[0, 0], [1, 1]], acc=[1, 1])
    a.samples["old", "none"] = {}
    assert [c.metric for c in paired.compare(a, b)] == ["acc"]
    said = "\n".join(paired.notes(a, b))
    assert "t f1: not compared" in said
    assert "old (none) is only in a" in said


def test_log_likelihoods_behind_perplexity_are_not_taken_for_perplexities():
    a, b = ([[-5.0, 2], [-7.0, 4]], [[-4.0, 2], [-6.0, 4]])
    c = paired.compare(
        evaluation("a", higher=None, word_perplexity=a), evaluation("b", higher=None, word_perplexity=b)
    )[0]
    assert (c.base, c.other, c.other_only) == (12 / 6, 10 / 6, 2)  # nats per word, and lower is better


def test_adapter_without_effect_is_found_out():
    a, b = losses("a", [1.0, 2.0], [1, 2]), losses("b", [1.0, 2.0], [1, 2])
    assert paired.notes(a, b) == [paired.INACTIVE]
    b.samples["t", "none"][1]["loss_sum"] = np.nextafter(2.0, 3.0)
    assert paired.notes(a, b) == []


def test_flips_go_by_direction_the_largest_first():
    a = evaluation("a", higher=False, m=[0.0, 5.0, 2.0, 4.0])
    b = evaluation("b", higher=False, m=[1.0, 4.0, 2.0, 0.0])
    gained, lost = paired.flips(a, b, "t", "m")
    assert [(before["m"], after["m"]) for before, after in gained] == [(4.0, 0.0), (5.0, 4.0)]
    assert [(before["m"], after["m"]) for before, after in lost] == [(0.0, 1.0)]
    with pytest.raises(DataError, match="no metric 'bleu'"):
        paired.flips(a, b, "t", "bleu")


def test_folders_are_read_and_damage_is_placed(tmp_path):
    good = write(tmp_path / "good", [row(i, {"acc": 1.0}) for i in range(3)])
    assert paired.compare(good, good)[0].n == 3
    with pytest.raises(DataError, match=r"samples_t.jsonl:2: item 0 stands here twice"):
        paired.read(write(tmp_path / "twice", [row(0, {"acc": 1.0})] * 2))
    with pytest.raises(DataError, match=r"samples_t.jsonl:1: not a sample"):
        paired.read(write(tmp_path / "odd", [{"answer": "yes"}]))
    with pytest.raises(DataError, match="no evaluation"):
        paired.read(tmp_path)


def test_confidence_in_per_cent_is_refused():
    with pytest.raises(ConfigError, match=r"such as 0\.95"):
        paired.compare(evaluation("a", m=[0.0]), evaluation("b", m=[0.0]), confidence=95)


def test_command_prints_a_table_and_fails_on_an_adapter_without_effect(tmp_path, capsys):
    base = write(tmp_path / "base", [row(i, {"acc": 0.0}) for i in range(30)])
    tuned = write(tmp_path / "tuned", [row(i, {"acc": float(i < 20)}, answer="no") for i in range(30)])
    assert cli.main(["compare", str(base), str(tuned), "--markdown"]) == 0
    line = capsys.readouterr().out.splitlines()[2]
    assert line.startswith("| t acc (%) | 30 | 0.0 | 66.7 | +66.7 |")
    assert line.endswith("| 20 | 0 | better |")
    assert cli.main(["compare", str(base), str(base)]) == 1
    assert paired.INACTIVE in capsys.readouterr().out


@pytest.mark.parametrize(("gain", "low", "high"), [(1, 0.970, 1), (-1, -1, -0.970), (0, -0.030, 0.030)])
def test_items_that_all_agree_leave_a_doubt(gain, low, high):
    assert paired.unanimous(np.full(120, gain), 0.95) == pytest.approx((low, high), abs=5e-4)
