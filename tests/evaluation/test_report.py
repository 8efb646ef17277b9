"""The page of a run: self-contained, escaped, complete, and plain about what is missing."""

import json
import re

import numpy as np
import pytest
from run_folders import EVIL, Page, evaluate, make_bare, make_run, sample, train_line

from nlpft import cli
from nlpft.errors import DataError, UserError
from nlpft.evaluation import answers
from nlpft.evaluation.report import facts, metrics, plots, write


@pytest.fixture
def bare(tmp_path):
    """A run of which nothing but the configuration is there."""
    return make_bare(tmp_path / "run")


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run")


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """The page of a run with everything in it."""
    return html_of(make_run(tmp_path_factory.mktemp("full") / "run"))


def html_of(run, name="report.html"):
    return write.write_report(write.read([run]), run / name).read_text(encoding="utf-8")


def page_of(run):
    return Page(html_of(run))


def test_page_needs_nothing_outside_itself(html):
    fetched = r"""(?:src|href|action|data)\s*=\s*["']?\s*(?:https?:)?//|url\(\s*["']?(?:https?:)?//|@import"""
    assert not re.search(fetched, html)
    assert {"script", "link", "iframe", "object", "img"}.isdisjoint(tag for tag, _ in Page(html).tags)


def test_what_models_and_users_wrote_is_escaped(html):
    assert "<script" not in html
    assert "<b>bold</b>" not in html
    words = Page(html).text
    assert f"Question 10 {EVIL}" in words
    assert f"tuned 10 {EVIL}" in words


def test_markup_is_well_formed_and_ids_are_unique(html):
    page = Page(html)
    assert page.crossed == []
    assert page.open == []
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    used = {attrs["xlink:href"] for _, attrs in page.tags if "xlink:href" in attrs}
    assert used <= {f"#{name}" for name in ids}


def test_page_can_be_read_by_a_screen_reader(html):
    page = Page(html)
    assert ("html", {"lang": "en"}) in page.tags
    assert all("scope" in attrs for tag, attrs in page.tags if tag == "th")
    figures = [attrs for tag, attrs in page.tags if tag == "figure"]
    assert len(figures) == 6  # two forests, loss, rate, speed, memory
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in figures)
    assert [tag for tag, _ in page.tags if tag in ("h1", "h2")] == ["h1", *["h2"] * 5]


def test_headline_says_how_much_better_and_how_sure(html):
    text = Page(html).text
    headline = text[: text.index("Evaluation")]
    assert (
        "tuned is better than the base model on heldout exact match 25.0 % → 75.0 % (+50.0 points, 95 % interval"
        in headline
    )
    assert "heldout loss" in headline


def test_headline_does_not_claim_what_is_not_shown(bare):
    evaluate(bare, "base", [sample(i, i < 10, 20.0 + i % 2, "a") for i in range(40)])
    evaluate(bare, "tuned", [sample(i, i < 11, 20.0 + (i + i // 3) % 2, "b") for i in range(40)])
    assert "No difference between tuned and the base model is shown on any of 2 measures." in page_of(bare).text


def test_headline_tells_of_an_adapter_without_effect(bare):
    for label in ("base", "tuned"):
        evaluate(bare, label, [sample(i, i < 10, 20.0, "a") for i in range(40)])
    text = page_of(bare).text
    assert "tuned gives identical answers: the adapter may not be active" in text[: text.index("Evaluation")]


def test_every_section_shows_the_runs_own_figures(html):
    text = Page(html).text
    assert "tokens learnt 9,000" in text
    assert "time in steps 0:00:15" in text
    assert "tokens/s, median 1,024" in text
    assert "best evaluation loss 1.750 at step 20" in text
    assert "rejected unknown role 20" in text
    assert "Rows kept, repaired, truncated and rejected add up to the rows read" in text
    assert "data.train sha256:ab" in text
    assert "note: <b>bold</b>" in text


def test_rows_that_are_unaccounted_for_are_pointed_out(run):
    (run / "data.json").write_text(json.dumps({"train": {"rows_read": 10, "kept": 6, "repaired": 1, "rejected": 1}}))
    assert "train: 2 of the rows read are neither kept, repaired, truncated nor rejected" in page_of(run).text


def test_changed_answers_come_first_and_show_both_directions(html):
    text = Page(html).text
    shown = re.findall(r"heldout\.json:\d+ (gained|lost|same score)", text)
    assert shown == ["gained", "lost"] * 6
    assert "base: right base 0 tuned: wrong tuned 0" in text


def test_few_changes_are_filled_up_with_items_of_the_same_score(bare):
    evaluate(bare, "base", [sample(i, i < 10, 20.0, "a") for i in range(40)])
    evaluate(bare, "tuned", [sample(i, i < 11, 20.0, "b") for i in range(40)])
    shown = re.findall(r"heldout\.json:\d+ (gained|lost|same score)", page_of(bare).text)
    assert shown == ["gained", *["same score"] * (facts.ITEMS - 1)]


def test_what_is_missing_is_said_with_the_remedy(bare):
    text = page_of(bare).text
    assert "No evaluation yet" in text
    assert f"nlpft eval {bare} --heldout FILE -o {bare / 'eval' / 'tuned'}" in text
    assert "No training steps are recorded" in text
    assert "data.json is missing" in text
    assert "No environment.json" in text


def test_evaluation_without_the_base_model_is_shown_by_itself(bare):
    evaluate(bare, "tuned", [sample(i, i < 10, 20.0, "a") for i in range(40)])
    text = page_of(bare).text
    assert "The base model has not been evaluated" in text
    assert "tuned heldout exact match 0.250" in text


def test_evaluations_of_other_items_are_refused_on_the_page(run):
    evaluate(run, "other", [sample(i, True, 20.0, "a") for i in range(39)])
    text = page_of(run).text
    assert "other could not be compared with the base model" in text
    assert "39 in both, 1 only in" in text
    assert "tuned is better" in text


def test_killed_and_resumed_run_counts_each_step_once(bare):
    lines = [*map(train_line, range(1, 6)), train_line(5, 1.5), train_line(6)[:40]]
    (bare / "metrics.jsonl").write_text("".join(lines))
    train, evals, unreadable = metrics.read(bare / "metrics.jsonl")
    assert [line["step"] for line in train] == [1, 2, 3, 4, 5]
    assert (train[-1]["loss"], evals, unreadable) == (1.5, [], 1)
    assert "1 line of metrics.jsonl could not be read and is left out" in page_of(bare).text


def test_long_curves_keep_their_mean():
    steps, losses, targets = (
        np.arange(6 * plots.POINTS),
        np.linspace(3, 1, 6 * plots.POINTS),
        np.full(6 * plots.POINTS, 7.0),
    )
    at, thinned = plots.thin(steps, losses, targets)
    assert len(at) == plots.POINTS
    assert at[-1] == steps[-1]
    assert thinned.mean() == pytest.approx(losses.mean(), rel=1e-9)


def test_figures_that_are_no_numbers_or_missing_do_not_stop_the_page(bare):
    lines = [train_line(1), train_line(2, None), '{"kind": "train", "step": 3}\n']
    lines.append('{"kind": "eval", "step": 3, "loss": NaN}\n')
    (bare / "metrics.jsonl").write_text("".join(lines))
    assert "steps 3" in page_of(bare).text


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            [(10, 1.9, False), (20, 1.7, False), (30, 1.8, True)],
            "loss 1.800 at step 30",
        ),  # of the highest accuracy, say
        ([(10, 1.9, True), (20, 1.7, True), (30, 1.8, False)], "loss 1.700 at step 20"),
        ([(10, 1.9, None), (20, 1.7, None)], "loss 1.700 at step 20"),
        ([(10, None, None), (20, None, True)], "at step 20"),
        ([(10, None, False), (20, None, False)], None),
    ],
)
def test_best_evaluation_is_the_one_whose_weights_were_kept(bare, lines, said):
    evals = [
        json.dumps({"kind": "eval", "step": step, "loss": loss} | ({} if best is None else {"best": best})) + "\n"
        for step, loss, best in lines
    ]
    (bare / "metrics.jsonl").write_text("".join([train_line(30), *evals]))
    assert dict(metrics.facts(facts.read(bare).metrics)).get("best evaluation") == said


def test_a_log_likelihood_is_no_answer():
    assert answers.written({"resps": [[[-3.25, False]], [[-4.0, True]]]}) is None
    assert answers.written({"resps": [[["-3.25", "False"]]]}) is None
    assert answers.written({"resps": [["42"]]}) == "42"


def test_same_run_gives_the_same_page(run):
    first, second = (html_of(run, name) for name in ("a.html", "b.html"))
    assert first == second


def test_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="--output_dir"):
        html_of(tmp_path)


def test_damaged_file_leaves_the_old_page(run):
    old = html_of(run)
    (run / "environment.json").write_text("{")
    with pytest.raises(DataError, match=r"environment\.json: not JSON"):
        html_of(run)
    assert (run / "report.html").read_text(encoding="utf-8") == old
    assert not list(run.glob(".*"))


def test_command_writes_where_it_is_told(run, tmp_path, capsys):
    assert cli.main(["report", str(run), "-o", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert cli.main(["report", str(run), "-o", str(tmp_path / "no" / "page.html")]) == 2
