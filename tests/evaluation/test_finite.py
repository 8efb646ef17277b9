"""A score that is no finite number is an error of its subject, wherever evaluations are written, compared or shown."""

import json
import math

import numpy as np
import pytest
import tiny
from adapters import save_adapter
from evaluations import row
from run_folders import Page, choice, evaluate, make_bare, sample
from safetensors.torch import load_file, save_file

from nlpft import cli
from nlpft.evaluation import compare, items, results
from nlpft.evaluation.finite import dumps, failures
from nlpft.evaluation.report import write

NAN, INF = math.nan, math.inf


def no_constant(name):
    raise AssertionError(f"{name} in JSON")


def strict(text):
    return json.loads(text, parse_constant=no_constant)


def with_nan(run, label="tuned"):
    """What an evaluation of NaN weights looked like before it was an error: right answers to nothing, losses of NaN."""
    evaluate(run, label, [sample(i, False, NAN, "") for i in range(40)])
    path = run / "eval" / label / "results.json"
    said = json.loads(path.read_text())
    said["results"]["heldout"]["loss,none"] = NAN
    path.write_text(json.dumps(said))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"loss,none": NAN}, "loss"),
        ({"loss,none": 2.0, "perplexity,none": INF}, "perplexity"),
        ({"acc,none": 0.5, "acc_stderr,none": NAN}, None),
        ({"acc,none": np.float64(0.5), "alias": "t"}, None),
    ],
)
def test_a_score_that_is_no_number_fails_its_task_but_a_missing_error_of_it_does_not(values, said):
    found = failures({"t": values, "other": {"acc,none": 1.0}}, {})
    assert list(found) == (["t"] if said else [])
    assert all(f"not a finite number: {said};" in why for why in found.values())


def test_items_are_counted_and_answers_chosen_among_nans_count_as_none():
    losses = [row(i, {"m": 1.0}, loss_sum=NAN if i < 2 else 1.0) for i in range(3)]
    chosen = [choice(i, True) | {"resps": [[[x, False]] for x in (NAN, -1.0)]} for i in range(4)]
    impossible = [choice(i, True) | {"resps": [[[x, False]] for x in (-INF, -1.0)]} for i in range(4)]
    found = failures({}, {"a": losses, "b": chosen, "c": impossible, "d": [row(0, {"f1": [1, 0]})]})
    assert "loss in 2 of 3 items" in found["a"]
    assert "log-likelihoods in 4 of 4 items" in found["b"]
    assert found.keys() == {"a", "b"}


def test_what_is_written_is_json_and_names_the_error(tmp_path):
    rows = [row(i, {"m": NAN}, loss_sum=np.float32(INF)) for i in range(2)]
    results.write(tmp_path, {"results": {"t": {"m,none": np.float64(NAN)}}}, {"t": rows}, {"label": "x"})
    told = strict((tmp_path / "results.json").read_text())
    assert told["results"]["t"]["m,none"] is None
    assert "m in 2 of 2 items, loss in 2 of 2 items" in told["nlpft"]["errors"]["t"]
    assert [strict(line)["loss_sum"] for line in (tmp_path / "samples_t.jsonl").open()] == [None, None]
    assert items.read(tmp_path).errors == told["nlpft"]["errors"]
    assert strict(dumps({"a": (np.arange(2), -INF)})) == {"a": [[0, 1], None]}


def test_an_adapter_of_nans_fails_by_name_and_keeps_no_other_from_being_scored(tmp_path, tiny_folder, capsys):
    adapters = [save_adapter(tmp_path / name, tiny_folder, 0.5) for name in ("broken", "sound")]
    file = adapters[0] / "adapter_model.safetensors"
    save_file({k: v * NAN for k, v in load_file(file).items()}, file, metadata={"format": "pt"})
    tiny.write_json(tmp_path / "rows.json", [tiny.chat(f"question {n}", "word") for n in range(4)])
    out = tmp_path / "out"
    line = ["eval", str(tiny_folder), "--adapters", *map(str, adapters), "--heldout", str(tmp_path / "rows.json")]
    assert cli.main([*line, "-o", str(out)]) == 1
    said = capsys.readouterr()
    assert "error: broken: heldout failed: not a finite number: loss in 4 of 4 items" in said.err
    assert " nan" not in said.out
    assert all(strict(line) for path in out.glob("*/*.json*") for line in [path.read_text()] if path.suffix == ".json")
    assert [items.read(out / name).errors.keys() for name in ("broken", "sound")] == [{"heldout"}, set()]
    assert cli.main(["compare", *(str(out / name) for name in ("base", "broken", "sound"))]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "error: broken: heldout failed: not a finite number" in said
    assert "exact_match" not in said[said.index("broken against base") : said.index("sound against base")]


def test_nothing_is_compared_in_a_task_whose_scores_are_no_numbers(tmp_path, capsys):
    run = make_bare(tmp_path / "run")
    evaluate(run, "base", [sample(i, False, 20.0 + i, "a") for i in range(40)])
    with_nan(run)
    base, tuned = (items.read(run / "eval" / name) for name in ("base", "tuned"))
    assert compare.compare(base, tuned) == []
    assert compare.faults(base, tuned) == compare.notes(base, tuned)
    assert cli.main(["compare", str(base.folder), str(tuned.folder), "--json"]) == 1
    (found,) = strict(capsys.readouterr().out)["others"]
    assert (found["comparisons"], len(found["faults"])) == ([], 1)


def test_page_and_markdown_say_in_red_what_failed(tmp_path):
    run = make_bare(tmp_path / "run")
    with_nan(run)
    alone = write.write_report(write.read([run]), tmp_path / "a.html").read_text(encoding="utf-8")
    assert 'class="note warning worse">tuned: heldout failed: not a finite number' in alone
    evaluate(run, "base", [sample(i, False, 20.0 + i, "a") for i in range(40)])
    found = write.read([run])
    html = write.write_report(found, tmp_path / "b.html").read_text(encoding="utf-8")
    text = Page(html).text
    assert "tuned : an error in the evaluation, see below" in text[: text.index("Evaluation")]
    assert "No difference" not in text
    assert 'class="note warning worse">Tuned: heldout failed: not a finite number' in html
    assert "tuned: heldout failed" in write.write_markdown(found, tmp_path / "b.md").read_text(encoding="utf-8")
    other = make_bare(tmp_path / "other")
    two = write.write_report(write.read([run, other]), tmp_path / "c.html").read_text(encoding="utf-8")
    assert "run: tuned: heldout failed: not a finite number" in Page(two).text


def test_what_nlpft_eval_noted_is_told_by_compare(tmp_path):
    rows = [row(i, {"acc": float(i % 2)}, answer="a") for i in range(8)]
    about = {"label": "tuned", "errors": {"arc": "no data"}, "unparsed": {"t,strict": 3}, "inactive": True}
    for name, more in (("base", {"label": "base", "unparsed": {"t,accuracy": 1200}}), ("tuned", about)):
        (tmp_path / name).mkdir()
        results.write(tmp_path / name, {}, {"t": rows}, more)
    base, tuned = (items.read(tmp_path / name) for name in ("base", "tuned"))
    assert compare.faults(base, tuned) == ["tuned: arc failed: no data", compare.PROBED]
    assert compare.notes(base, tuned)[2:] == [
        "base: 1,200 answers of t, accuracy could not be read; they count as wrong",
        "tuned: 3 answers of t, strict could not be read; they count as wrong",
    ]
    assert cli.main(["compare", str(base.folder), str(tuned.folder)]) == 1
    assert compare.faults(base, base) == [compare.INACTIVE]


def test_page_tells_of_an_inactive_adapter_and_of_unread_answers(tmp_path):
    run = make_bare(tmp_path / "run")
    for label in ("base", "tuned"):
        evaluate(run, label, [sample(i, i < 10, 20.0, "a") for i in range(40)])
    path = run / "eval" / "tuned" / "results.json"
    said = json.loads(path.read_text())
    said["nlpft"] |= {"inactive": True, "unparsed": {"heldout,f1": 7}}
    path.write_text(json.dumps(said))
    text = Page(write.write_report(write.read([run]), tmp_path / "a.html").read_text(encoding="utf-8")).text
    assert f"tuned : {compare.PROBED} ." in text[: text.index("Evaluation")]
    assert "7 answers of heldout, f1 could not be read" in text


def test_an_evaluation_of_which_everything_failed_says_why(tmp_path):
    results.write(tmp_path, {}, {}, {"label": "x", "errors": {"x": "cannot be put on its base"}})
    with pytest.raises(items.DataError, match="x failed: cannot be put on its base"):
        items.read(tmp_path)
