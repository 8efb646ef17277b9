"""Two evaluations of the same items: the statistics are right, and what cannot be compared is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from evaluations import evaluation, row
from scipy import stats

from nlpft import cli
from nlpft.errors import ConfigError, DataError
from nlpft.evaluation import compare as paired
from nlpft.evaluation import statistics
from nlpft.evaluation.compare import Settings
from nlpft.evaluation.items import Evaluation, read


def losses(label, sums, tokens):
    """A task of which only the loss is known."""
    rows = [row(i, {}, loss_sum=s, tokens=t) for i, (s, t) in enumerate(zip(sums, tokens, strict=True))]
    return Evaluation(label, {}, {("t", "none"): dict(enumerate(rows))})


def write(folder, rows, task="t"):
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps({"nlpft": {"label": folder.name}}))
    (folder / f"samples_{task}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder


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
    c = paired.compare(evaluation("a", m=a.tolist()), evaluation("b", m=b.tolist()), Settings(0.9))[0]
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


def test_loss_is_the_ratio_of_sums_and_rows_are_drawn_with_their_tokens():
    sums, tokens = np.array([10.0, 3.0, 8.0, 90.0] * 10), np.array([10, 1, 4, 100] * 10)
    after = sums - np.array([1.0, -1.0, 2.0, 30.0] * 10) - np.arange(40) / 100
    c = paired.compare(losses("a", sums, tokens.tolist()), losses("b", after, tokens.tolist()))[0]
    assert (c.metric, c.base, c.other) == ("loss", sums.sum() / tokens.sum(), after.sum() / tokens.sum())
    drawn = np.random.default_rng(0).integers(0, 40, (10_000, 40))
    ratios = (after - sums)[drawn].sum(1) / tokens[drawn].sum(1)
    assert (c.low, c.high) == pytest.approx(tuple(np.percentile(ratios, [2.5, 97.5])), rel=1e-6)
    assert c.verdict == "better"


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


def test_a_metric_of_only_one_is_told_as_such():
    a, b = evaluation("a", acc=[1, 0], rouge=[0.5, 1.0]), evaluation("b", acc=[1, 1], bleu=[0.1, 0.2])
    assert [c.metric for c in paired.compare(a, b)] == ["acc"]
    assert paired.notes(a, b) == ["t rouge: not compared, only in a", "t bleu: not compared, only in b"]


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
        read(write(tmp_path / "twice", [row(0, {"acc": 1.0})] * 2))
    with pytest.raises(DataError, match=r"samples_t.jsonl:1: not a sample"):
        read(write(tmp_path / "odd", [{"answer": "yes"}]))
    with pytest.raises(DataError, match="no evaluation"):
        read(tmp_path)


def test_confidence_in_per_cent_is_refused():
    with pytest.raises(ConfigError, match=r"such as 0\.95"):
        paired.compare(evaluation("a", m=[0.0]), evaluation("b", m=[0.0]), Settings(confidence=95))


def test_command_prints_a_table_and_fails_on_an_adapter_without_effect(tmp_path, capsys):
    base = write(tmp_path / "base", [row(i, {"acc": 0.0}) for i in range(30)])
    tuned = write(tmp_path / "tuned", [row(i, {"acc": float(i < 20)}, answer="no") for i in range(30)])
    assert cli.main(["compare", str(base), str(tuned), "--markdown"]) == 0
    line = capsys.readouterr().out.splitlines()[2]
    assert line.startswith("| t acc (%) | 30 | 0.0 | 66.7 | +66.7 |")
    assert line.endswith("| 20 | 0 | better |")
    assert cli.main(["compare", str(base), str(base)]) == 1
    assert paired.INACTIVE in capsys.readouterr().out


def mmlu(label, right, **results):
    """A group of two subjects, and a task by itself: task -> which items are right."""
    children = {"mmlu": ["stem", "law"], "stem": ["physics"], "sciq": []}
    samples = {
        (task, "none"): {
            i: {**row(i, {"acc": float(r)}, answer=f"{label} {i}"), "task": task} for i, r in enumerate(of)
        }
        for task, of in right.items()
    }
    return Evaluation(Path(label), {"group_subtasks": children, **results}, samples)


BASE = mmlu("base", {"physics": [0] * 10, "law": [0] * 20 + [1] * 10, "sciq": [1] * 40})
BETTER = mmlu("a", {"physics": [1] * 10, "law": [1] * 10 + [0] * 10 + [1] * 10, "sciq": [1] * 40})
WORSE = mmlu("b", {"physics": [0] * 10, "law": [0] * 20 + [1] * 10, "sciq": [0] * 20 + [1] * 20})


def test_subjects_of_a_group_are_one_line_by_item_unless_asked_for_singly():
    group, alone = paired.compare(BASE, BETTER)
    assert (group.task, group.n, group.tasks, group.base, group.other) == ("mmlu", 40, 2, 0.25, 0.75)
    assert group.clusters == 40  # items of two subjects stay two, whatever their numbers
    assert (alone.task, alone.n, alone.tasks) == ("sciq", 40, 1)
    singly = paired.compare(BASE, BETTER, Settings(by_group=False))
    assert [c.task for c in singly] == ["physics", "law", "sciq"]


def test_task_files_can_name_their_group():
    named = {"configs": {task: {"metadata": {"group": "animals"}} for task in ("cats", "dogs")} | {"alone": {}}}
    base, other = (
        Evaluation(Path(name), named, mmlu(name, {"cats": [0] * 5, "dogs": [of] * 5, "alone": [1] * 5}).samples)
        for name, of in (("a", 0), ("b", 1))
    )
    assert [(c.task, c.n, c.tasks) for c in paired.compare(base, other)] == [("animals", 10, 2), ("alone", 5, 1)]


def test_flips_of_a_group_know_their_tasks():
    gained, lost = paired.flips(BASE, BETTER, "mmlu", "acc")
    expected = [("physics", i) for i in range(10)] + [("law", i) for i in range(10)]
    assert [(after["task"], after["doc_id"]) for _, after in gained] == expected
    assert lost == []


def test_one_correction_covers_every_model_and_measure():
    both = paired.compare_all(BASE, [BETTER, WORSE])
    found = [c for made in both for c in made]
    differ = [c for c in found if c.base != c.other]
    assert len(differ) == 2  # what both have alike is no test, and costs the others nothing
    assert [c.p_adjusted for c in differ] == statistics.holm([c.p_value for c in differ])
    assert [(c.p_adjusted, c.detectable) for c in found if c not in differ] == [(1.0, None)] * 2
    alone = paired.compare(BASE, BETTER)[0]
    assert both[0][0].p_adjusted == pytest.approx(2 * alone.p_adjusted)
    assert both[0][0].detectable > alone.detectable  # a stricter level asks for a larger difference


def test_over_hundreds_of_measures_what_is_large_is_still_shown():
    rng = np.random.default_rng(0)
    names = [f"m{i}" for i in range(540)]
    base = {name: (30 + rng.random(20)).tolist() for name in names}
    other = {name: [x - 8 - rng.random() for x in of] for name, of in base.items()}
    found = paired.compare(
        evaluation("a", higher=False, **base), evaluation("b", higher=False, **other), Settings(resamples=1000)
    )
    assert max(c.p_adjusted for c in found) <= 0.05
    assert {c.verdict for c in found} == {"better"}


@pytest.mark.parametrize("resamples", [-1, 0, 1, 999])
def test_too_few_resamples_are_refused(resamples):
    with pytest.raises(ConfigError, match="at least 1,000"):
        paired.compare(evaluation("a", m=[0.0, 1.0]), evaluation("b", m=[0.5, 1.0]), Settings(resamples=resamples))


def flipped(gained, lost, items, **settings):
    """Of `items`, half of which base gets right, some turned right and some wrong."""
    right = [0.0] * (items // 2) + [1.0] * (items - items // 2)
    other = [1.0] * gained + right[gained : items - lost] + [0.0] * lost
    return paired.compare(evaluation("a", m=right), evaluation("b", m=other), Settings(**settings))[0]


@pytest.mark.parametrize(("gained", "lost", "items"), [(1, 0, 50), (0, 4, 60), (3, 0, 50), (2, 2, 40), (0, 0, 50)])
def test_few_flips_exclude_neither_no_difference_nor_a_loss(gained, lost, items):
    c = flipped(gained, lost, items, retention=("t",))
    assert c.low < 0 < c.high
    assert c.p_value > 0.05
    assert c.loss_bound > (lost - gained) / items
    assert c.forgotten.startswith("no loss beyond ")
    assert c.forgotten != "no loss beyond 0.0 points"


def test_difference_that_few_flips_could_show_is_no_smaller_than_the_exact_test_needs():
    assert flipped(1, 0, 50).detectable == pytest.approx(statistics.countable(50, 0.05))
    assert flipped(20, 12, 400).detectable > statistics.countable(400, 0.05)


def test_retention_agrees_with_the_interval_beside_it():
    lost = flipped(0, 6, 60, retention=("t",))
    both = paired.corrected([lost, flipped(1, 3, 60), flipped(2, 3, 60)])[0]  # three tests: no longer significant
    assert (lost.forgotten, lost.verdict) == ("forgotten: 10.0 points", "worse")
    assert (both.high < 0, both.verdict) == (True, "no difference shown")
    assert both.forgotten == f"a loss of up to {100 * lost.loss_bound:.1f} points is possible, not shown"
    assert flipped(20, 0, 60, retention=("t",)).forgotten == "no loss"


def test_scores_of_which_few_differ_exclude_neither_no_difference_nor_a_loss():
    base, other = evaluation("a", m=[0.5] * 60), evaluation("b", m=[0.5] * 56 + [0.1, 0.2, 0.1, 0.3])
    c = paired.compare(base, other, Settings(retention=("t",)))[0]
    assert c.p_value == 2 / 2**4
    assert c.low < 0 <= c.high
    assert (c.loss_bound, c.forgotten) == (None, "too few items differ to exclude a loss")


def test_retention_says_what_was_forgotten_and_what_loss_is_excluded():
    kept, lost = (made[1] for made in paired.compare_all(BASE, [BETTER, WORSE], Settings(retention=("sciq",))))
    assert kept.retention
    assert lost.retention
    assert (lost.forgotten, lost.verdict) == ("forgotten: 50.0 points", "worse")
    assert kept.loss_bound == pytest.approx(1 - 0.05 ** (1 / 40))  # Clopper & Pearson: none of 40 items was lost
    assert kept.forgotten == "no loss beyond 7.2 points"
    assert not paired.compare(BASE, BETTER, Settings(retention=("sciq",)))[0].retention


@pytest.mark.parametrize("higher", [True, False])
def test_largest_loss_not_excluded_goes_by_what_is_better(higher):
    rng = np.random.default_rng(0)
    zeros, up = [0.0] * 60, rng.normal(1.0, 0.5, 60).tolist()
    gain = paired.compare(evaluation("a", higher=higher, m=zeros), evaluation("b", higher=higher, m=up))[0]
    loss = paired.compare(evaluation("a", higher=higher, m=up), evaluation("b", higher=higher, m=zeros))[0]
    gain, loss = (gain, loss) if higher else (loss, gain)
    assert gain.loss_bound == 0
    assert 1.05 < loss.loss_bound < 1.2  # the mean is 1, its one-sided bound 1.645 standard errors of 0.065 above it


def test_task_files_and_groups_can_be_marked_as_retention():
    marked = {"configs": {"physics": {"metadata": {"retention": True}}}}
    base = mmlu("base", {"physics": [0] * 10, "law": [0] * 30}, **marked)
    assert [c.retention for c in paired.compare(base, BETTER_OF_TWO)] == [True]
    assert [c.retention for c in paired.compare(base, BETTER_OF_TWO, Settings(by_group=False))] == [True, False]
    with pytest.raises(ConfigError, match=r"no task 'arc' was evaluated; there are law, mmlu, physics"):
        paired.compare(base, BETTER_OF_TWO, Settings(retention=("arc",)))


BETTER_OF_TWO = mmlu("a", {"physics": [1] * 10, "law": [1] * 30})


def passages(label, right, **more):
    """Items of which four each ask about one passage."""
    rows = {i: row(i, {"acc": float(r)}, doc={"passage": f"p{i // 4}"}, **more) for i, r in enumerate(right)}
    return Evaluation(Path(label), {}, {("boolq", "none"): rows})


def test_items_that_belong_together_count_as_one():
    base = passages("a", [0, 0, 0, 0] * 3 + [1, 1, 1, 1] * 7)
    other = passages("b", [1, 1, 1, 1] * 6 + [0, 0, 0, 0] + [1, 1, 1, 1] * 3)
    apart, together = (paired.compare(base, other, Settings(cluster=field))[0] for field in ("cluster", "passage"))
    assert (apart.clusters, together.clusters, together.n) == (40, 10, 40)
    assert apart.difference == together.difference == 0.2
    assert together.high - together.low > 1.5 * (apart.high - apart.low)
    assert apart.p_value == statistics.mcnemar(4, 12)
    assert together.p_value == pytest.approx(
        10 / 16, abs=0.02
    )  # of the signs of 4 clusters, all but 6 of 16 are as far out
    with pytest.raises(DataError, match="no item has a field 'pasage'; their documents have passage"):
        paired.compare(base, other, Settings(cluster="pasage"))


def test_a_cluster_in_the_row_is_taken_unasked():
    base, other = (passages(name, right, cluster="all but one") for name, right in (("a", [0] * 8), ("b", [1] * 8)))
    base.samples["boolq", "none"][7]["cluster"] = "one"
    assert paired.compare(base, other)[0].clusters == 2


def test_command_takes_several_and_names_one_label_twice_by_folder(tmp_path, capsys):
    for name, right in (("x", 0.0), ("y", 1.0), ("base", 0.5)):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "eval", [row(i, {"acc": float(i < 30 * right)}, answer=name) for i in range(30)])
    folders = [str(tmp_path / name / "eval") for name in ("base", "x", "y")]
    assert cli.main(["compare", *folders, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["label"] for one in found["others"]] == folders[1:]
    x, y = (one["comparisons"][0] for one in found["others"])
    assert (x["verdict"], x["lost"]) == ("worse", {"t": list(range(15))})
    assert (y["verdict"], y["gained"]) == ("better", {"t": list(range(15, 30))})


def test_command_shows_flipped_items_side_by_side(tmp_path, capsys):
    choices = [["Is it so?", " yes"], ["Is it so?", " no"]]
    said = {True: [[[-1.0, True]], [[-2.0, False]]], False: [[[-3.0, False]], [[-2.0, True]]]}
    base, tuned = (
        write(
            tmp_path / name,
            [row(i, {"acc": float(r)}, arguments=choices, target=0) | {"resps": said[r]} for i, r in enumerate(right)],
        )
        for name, right in (("base", [False] * 8 + [True] * 2), ("tuned", [True] * 9 + [False]))
    )
    assert cli.main(["compare", str(base), str(tuned), "--flips", "2", "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "t acc: gained, 2 of 8" in lines
    assert lines.count("| Is it so? | yes | no | yes |") == 2
    assert lines[lines.index("t acc: lost, 1 of 1") + 4] == "| Is it so? | yes | yes | no |"
    assert cli.main(["compare", str(base), str(tuned), "--flips", "2"]) == 0
    assert "base: wrong" in capsys.readouterr().out


def test_command_wants_something_to_compare_with(tmp_path, capsys):
    assert cli.main(["compare", str(tmp_path)]) == 2
    assert "two evaluation folders" in capsys.readouterr().err


def test_damaged_results_are_placed(tmp_path):
    folder = write(tmp_path / "e", [row(0, {"acc": 1.0})])
    for text, said in (("[]", "not an object"), ("{", "not JSON")):
        (folder / "results.json").write_text(text)
        with pytest.raises(DataError, match=said):
            read(folder)
    (folder / "results.json").write_text("{}")
    (folder / "samples_t.jsonl").write_bytes(b'{"doc_id": "\xff"}\n')
    with pytest.raises(DataError, match="not UTF-8"):
        read(folder)
