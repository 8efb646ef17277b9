"""Several runs on one page, the same tables as Markdown, plots as files, and the model card."""

import json
import re
import shutil
import struct
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import tiny
from huggingface_hub import ModelCard
from run_folders import EVIL, Page, choice, evaluate, make_bare, make_run, sample, train_line
from safetensors.numpy import save_file

from nlpft import cli
from nlpft.errors import ConfigError, DataError, UserError
from nlpft.evaluation import statistics
from nlpft.evaluation.compare import DEFAULT, Settings
from nlpft.evaluation.report import card, facts, metrics, page, parameters, plots, runs, svg, tokens, write

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "one")


@pytest.fixture
def other(tmp_path):
    """A run of another rate and of a model that is no better than the base."""
    made = make_run(tmp_path / "other")
    (made / "config.yaml").write_text("model: tiny\noptim:\n  lr: 0.5\n")
    shutil.rmtree(made / "eval")
    evaluate(made, "base", [sample(i, i < 10, 20.0 + i % 5, f"base {i}") for i in range(40)])
    evaluate(made, "tuned", [sample(i, i < 11, 20.0 + (i + 1) % 5, f"other {i}") for i in range(40)])
    return made


def save_adapter(run, **shapes):
    """An adapter of tensors of those shapes, by name with "__" for a dot."""
    (run / "model").mkdir(exist_ok=True)
    (run / "model" / "adapter_config.json").write_text("{}")
    tensors = {name.replace("__", "."): np.zeros(shape, np.float32) for name, shape in shapes.items()}
    save_file(tensors, run / "model" / "adapter_model.safetensors")


def text_of(paths, tmp_path, settings=DEFAULT):
    target = write.write_report(write.read(paths, settings), tmp_path / "page.html")
    return Page(target.read_text(encoding="utf-8")).text


def test_runs_are_compared_with_what_differs_between_them(run, other, tmp_path):
    text = text_of([run, other], tmp_path)
    assert "one : held-out loss 1.750 at step 20" in text
    assert "base 25.0 % one 75.0 % +50.0 (" in text
    assert "other 27.5 % +2.5 (" in text
    assert re.search(r"optim\.lr – 0\.5", text)
    assert "tiny tiny" not in text  # the model is the same
    assert "2.11" not in text  # and so is torch
    assert "steps 30" in text


def test_one_correction_covers_all_runs(run, other):
    found = write.read([run, other])
    p_values = [c.p_value for one in found for c in one.others[0].comparisons]
    together = [c.p_adjusted for one in runs.corrected(found) for c in one.comparisons]
    assert len(together) == 4
    assert together == statistics.holm(p_values)
    alone = found[0].others[0].comparisons[0]
    assert together[0] > alone.p_adjusted
    assert runs.corrected(found)[0].comparisons[0].detectable > alone.detectable  # at the level of one of four tests


def asked(run, items, right):
    """A run whose base and model were asked `items` items; of the model's answers the first `right` are right."""
    make_bare(run)
    for label, of in (("base", items // 2), ("tuned", right)):
        evaluate(run, label, [sample(i, i < of, 20.0 + i % 5, f"{label} {i}") for i in range(items)])
    return run


def test_runs_that_were_asked_other_items_say_so_by_model(tmp_path):
    paths = [asked(tmp_path / "many", 60, 50), asked(tmp_path / "few", 20, 15)]
    text = text_of(paths, tmp_path)
    assert "heldout exact_match (%) other items for each base" in text
    for said in (
        "base of many 60 items 50.0 %",
        "base of few 20 items 50.0 %",
        "many 60 items 83.3 %",
        "few 20 items 75",
    ):
        assert said in text
    both = write.write_markdown(write.read(paths), tmp_path / "two.md").read_text(encoding="utf-8")
    assert "### heldout exact_match (%): other items for each base" in both
    assert "| few, 20 items | 75.0 |" in both
    alike = [paths[0], asked(tmp_path / "alike", 60, 40)]
    assert "heldout exact_match (%) 60 items" in text_of(alike, tmp_path)


def test_a_measure_that_is_graded_in_one_run_is_one_measure_in_all(tmp_path):
    for name, score in (("whole", 1.0), ("graded", 0.5)):
        run = make_bare(tmp_path / name)
        for label, of in (("base", 5), ("tuned", 15)):
            rows = [
                sample(i, i < of and score, 20.0, f"{label} {i}") | {"loss_sum": 20.0 + (label == "base")}
                for i in range(30)
            ]
            evaluate(run, label, rows)
    found = write.read([tmp_path / "whole", tmp_path / "graded"])
    assert found[0].others[0].comparisons[0].binary
    both = {measure.name: measure for measure in runs.measures(runs.corrected(found))}
    assert list(both) == ["heldout exact_match", "heldout loss (nats)"]
    assert [c.show(c.other) for _, c in both["heldout exact_match"].rows] == ["0.500", "0.250"]


def test_curves_of_several_runs_lie_over_each_other_in_one_colour_each(run, other):
    drawn = {plot.name: plot for plot in plots.curves(write.read([run, other]), svg.PAGE)}
    assert [label for label, *_ in drawn["loss"].keys] == ["one", "other"]
    for name in ("loss", "held_out_loss", "rate", "speed", "memory"):
        lines = drawn[name].figure.axes[0].get_lines()
        assert [line.get_color() for line in lines] == list(svg.PAGE.series[:2])


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        make_run(tmp_path / name / "run")
    found = write.read([tmp_path / name / "run" for name in ("a", "b")])
    assert plots.distinct(found) == [str(tmp_path / name / "run") for name in ("a", "b")]


def test_runs_without_evaluation_or_with_other_items_are_named_and_keep_none_from_the_page(run, tmp_path):
    bare = make_bare(tmp_path / "bare")
    odd = make_run(tmp_path / "odd")
    shutil.rmtree(odd / "eval" / "tuned")
    evaluate(odd, "tuned", [sample(i, True, 20.0, "a") for i in range(39)])
    text = text_of([run, bare, odd], tmp_path)
    assert "bare: not compared, no evaluation" in text
    assert "odd: tuned: not compared, heldout: not the same items" in text
    assert "one 75.0 %" in text


def test_damaged_evaluation_is_said_on_the_page(run, tmp_path):
    evaluate(run, "cut", [sample(i, True, 20.0, "a") for i in range(40)])
    with (run / "eval" / "cut" / "samples_heldout.jsonl").open("a") as file:
        file.write('{"doc_id": 40, "met')
    evaluate(run, "late", [sample(i, True, 20.0, "a") for i in range(40)])
    (run / "eval" / "late" / "results.json").write_text("{")
    text = text_of([run], tmp_path)
    assert "samples_heldout.jsonl:41: not a sample" in text
    assert "late could not be compared" in text
    assert "tuned is better" in text


def test_retention_stands_apart_and_in_the_headline(run, tmp_path):
    for label, right in (("base", 30), ("tuned", 5)):
        with (run / "eval" / label / "samples_sciq.jsonl").open("w") as file:
            file.writelines(json.dumps(choice(i, i < right)) + "\n" for i in range(40))
    results = run / "eval" / "tuned" / "results.json"
    results.write_text(json.dumps({**json.loads(results.read_text()), "results": {"sciq": {"acc,none": 0.125}}}))
    text = text_of([run], tmp_path, Settings(retention=("sciq",)))
    assert "Retention: sciq acc forgotten: 62.5 points" in text[: text.index("Evaluation")]
    assert "Retention: what was forgotten" in text
    assert "▼ forgotten: 62.5 points" in text
    with pytest.raises(ConfigError, match="no task 'arc' was evaluated"):
        write.read([run], Settings(retention=("arc",)))


def test_retention_can_be_a_group(run, tmp_path):
    for label in ("base", "tuned"):
        path = run / "eval" / label / "results.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"group_subtasks": {"words": ["heldout"]}}))
    assert "Retention: heldout exact match no loss" in text_of([run], tmp_path, Settings(retention=("words",)))


def test_choices_that_changed_are_shown_side_by_side(run, tmp_path):
    for label, right in (("base", range(30)), ("tuned", range(25, 40))):
        with (run / "eval" / label / "samples_sciq.jsonl").open("w") as file:
            file.writelines(json.dumps(choice(i, i in right)) + "\n" for i in range(40))
    text = text_of([run], tmp_path)
    part = text[text.index("Benchmark items that changed") : text.index("Data")]
    assert re.findall(r"sciq item \d+ (gained|lost)", part) == ["gained", "lost"] * 6
    assert "sciq item 30 gained prompt What is 30? expected thirty base: wrong forty tuned: right thirty" in part


def test_rows_are_shown_token_by_token(run, tmp_path, tiny_folder):
    rows = tiny.write_json(tmp_path / "rows.json", [tiny.chat("question 1", f"answer {EVIL}")])
    assert cli.main(["convert", str(rows), "-o", str(tmp_path / "data"), "--model", str(tiny_folder)]) == 0
    (run / "data.json").write_text(json.dumps({"train": {"folder": str(tmp_path / "data")}}))
    tiny.save_tokenizer(run / "model")
    (html,) = (write.write_report(write.read([run]), tmp_path / "p.html").read_text(encoding="utf-8"),)
    learnt = "".join(re.findall(r'<span class="s?l"[^>]*>([^<]*)</span>', html[html.index('class="tokens"') :]))
    assert learnt == "answer &lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&lt;|im_end|&gt;"


@pytest.mark.parametrize(
    ("said", "why"), [({}, "does not say what it was trained on"), ({"folder": "gone"}, "gone: not a dataset folder")]
)
def test_rows_that_cannot_be_shown_are_explained(run, said, why):
    (run / "data.json").write_text(json.dumps({"train": said}))
    assert why in tokens.rows(facts.read(run))[1]


def test_trainable_parameters_are_read_from_the_adapter_by_block(run):
    block = {"m__layers__0__q__lora_A": (2, 8), "m__layers__0__q__lora_B": (8, 2), "m__layers__10__q__lora_A": (4, 8)}
    save_adapter(run, **block, m__embed__lora_A=(3, 5), m__head__lora_A=(2, 2))
    found = parameters.by_block(facts.read(run).folder)
    assert [(block.name, block.trains) for block in found] == [("embeddings", 15), ("1", 32), ("11", 32), ("head", 4)]


def test_recorded_parameters_come_before_the_adapters(run, tmp_path):
    save_adapter(run, m__layers__0__q=(2, 8))
    (run / "parameters.json").write_text(
        json.dumps({"1": {"trains": 250, "all": 1000}, "head": {"trains": 0, "all": 1000}})
    )
    assert "250 parameters train of 2,000 (12.5 %)" in text_of([run], tmp_path)


@pytest.mark.parametrize("content", [b"", b"abc", struct.pack("<Q", 1 << 60), struct.pack("<Q", 5) + b"[1,2]"])
def test_damaged_adapter_is_placed(run, content):
    save_adapter(run, m__layers__0__q=(2, 8))
    (run / "model" / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(DataError, match=r"adapter_model\.safetensors: not a whole safetensors file"):
        facts.read(run)


def test_memory_that_is_not_measured_has_no_figure(run):
    lines = [json.dumps({**json.loads(train_line(s)), "memory_gib": 0.0}) + "\n" for s in (1, 2)]
    (run / "metrics.jsonl").write_text("".join(lines))
    assert "memory" not in [plot.name for plot in plots.curves([facts.read(run)], svg.PAGE)]


def test_every_plot_is_written_as_png_and_svg_with_its_title(run, other, tmp_path):
    save_adapter(run, m__layers__0__q=(2, 8))
    for paths, more in (([run], {"parameters"}), ([run, other], {"held_out_loss"})):
        folder = tmp_path / f"plots{len(paths)}"
        write.write_plots(write.read(paths), folder)
        assert {p.stem for p in folder.glob("*.png")} == {p.stem for p in folder.glob("*.svg")}
        assert {p.stem for p in folder.iterdir()} == {
            "loss",
            "rate",
            "speed",
            "memory",
            "forest_points",
            "forest_nats",
        } | more
        assert all(p.read_bytes().startswith(PNG) for p in folder.glob("*.png"))
        drawn = (folder / "loss.svg").read_text(encoding="utf-8")
        assert "nats/token" in drawn
        assert svg.PRINT.series[0] in drawn
        assert not any(colour in drawn for colour in svg.CSS)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--plots"):
        write.write_plots(write.read([run]), tmp_path / "file")


def test_forest_has_a_line_for_each_measure_from_low_to_high(run):
    made = facts.read(run).others[0].comparisons
    points = plots.forest([("tuned", 0, made)], svg.PAGE)[0].figure.axes[0].get_lines()
    spans = [line.get_xdata().tolist() for line in points if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"]
    assert spans == [[100 * made[0].low, 100 * made[0].high]]
    assert [text.get_text() for text in points[0].axes.texts] == ["heldout exact match"]


@pytest.mark.parametrize("difference", [0.015, -0.03, 0.035, -0.18, -5.6, 1200.0])
def test_numbers_below_a_forest_stand_apart(run, difference):
    loss = facts.read(run).others[0].comparisons[1]
    c = replace(loss, difference=difference, low=0.94 * difference, high=1.06 * difference)
    figure = plots.forest([("tuned", 0, [c])], svg.PAGE)[0].figure
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels() if label.get_text()]
    inside = [box for box in boxes if figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1]
    assert len(inside) > 1
    assert all(a.x1 + 6 < b.x0 for a, b in pairwise(inside))


def test_intervals_of_one_unit_share_a_scale_and_no_others_do(run):
    points, loss = facts.read(run).others[0].comparisons
    rouge, chrf = (
        replace(loss, metric=name, difference=low, low=low, high=2 * low)
        for name, low in (("rouge1", 0.2), ("chrf", 30.0))
    )
    assert [page.bars([points, rouge, chrf], c)["high"] for c in (rouge, chrf)] == [1.0, 1.0]
    assert page.bars([chrf, replace(chrf, high=120.0)], chrf)["high"] == 0.5


def test_markdown_holds_the_tables_of_the_page(run, other, tmp_path):
    text = write.write_markdown(write.read([run]), tmp_path / "one.md").read_text(encoding="utf-8")
    assert "| heldout exact_match (%) | 40 | 25.0 | 75.0 | +50.0 |" in text
    assert "| steps | 30 |" in text
    assert "| rejected | unknown role | 20 |" in text
    assert "| all | 1,020 | 990 | 7 | 3 | 20 |" in text
    assert "| torch | 2.11 |" in text
    both = write.write_markdown(write.read([run, other]), tmp_path / "two.md").read_text(encoding="utf-8")
    assert "| one | 75.0 | +50.0 |" in both
    assert "| optim.lr | – | 0.5 |" in both


def test_markdown_says_what_is_missing(tmp_path):
    text = write.write_markdown(write.read([make_bare(tmp_path / "bare")]), tmp_path / "a.md").read_text(
        encoding="utf-8"
    )
    for said in ("No evaluation yet.", "No training steps are recorded.", "No summary of the data."):
        assert said in text


def test_card_has_the_hubs_metadata_and_the_runs_results(run):
    save_adapter(run, m__layers__0__q=(2, 8))
    (run / "model" / "nlpft.json").write_text(json.dumps({"base": "HuggingFaceTB/SmolLM2-135M"}))
    results = run / "eval" / "tuned" / "results.json"
    results.write_text(json.dumps({"nlpft": {"model": str(run), "label": "tuned"}}))
    made = ModelCard.load(card.write_card(facts.read(run)))
    assert (made.data.base_model, made.data.library_name) == ("HuggingFaceTB/SmolLM2-135M", "peft")
    said = [(r.dataset_name, r.metric_type, r.metric_value) for r in made.data.eval_results]
    assert said[0] == ("heldout", "exact_match", 0.75)
    assert "| heldout exact_match (%) | 40 | 25.0 | 75.0 |" in made.text


def test_card_of_another_models_evaluation_claims_no_result(run):
    save_adapter(run, m__layers__0__q=(2, 8))
    assert ModelCard.load(card.write_card(facts.read(run))).data.eval_results is None


def test_a_card_that_somebody_wrote_stays(run):
    save_adapter(run, m__layers__0__q=(2, 8))
    path = run / "model" / "README.md"
    for text, kept in (("# My model", True), (f"# Model\n{card.STUB}", False), (f"{card.MARK}\nold", False)):
        path.write_text(text)
        assert (card.write_card(facts.read(run)) is None) == kept
        assert (path.read_text() == text) == kept


def test_run_without_a_model_has_no_card(run):
    assert card.write_card(facts.read(run)) is None


def test_command_writes_page_markdown_plots_and_card(run, other, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_adapter(run, m__layers__0__q=(2, 8))
    assert cli.main(["report", str(run), "--markdown", "--plots", "drawn"]) == 0
    printed = capsys.readouterr().out.split()
    assert printed[:2] == [str(run / "report.html"), str(run / "report.md")]
    assert printed[-1] == str(run / "model" / "README.md")
    assert "drawn/loss.png" in printed
    assert cli.main(["report", str(run), str(other)]) == 0
    assert capsys.readouterr().out.split() == ["report.html"]
    assert "2 runs" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert cli.main(["report"]) == 2


def test_damaged_configuration_is_placed(run, other, tmp_path):
    (run / "config.yaml").write_text("a: [1")
    with pytest.raises(DataError, match=r"config\.yaml: not YAML"):
        page.render_all(write.read([run, other]))


def test_metrics_of_odd_lines_are_read_as_far_as_they_go(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('[]\n{"kind": "train", "step": "x"}\n{"kind": "train", "step": 1, "loss": "high"}\n\n')
    found = metrics.read(path)
    assert (len(found.train), found.unreadable) == (1, 3)
    assert np.isnan(metrics.column(found.train, "loss")).all()


@pytest.mark.parametrize(
    "data", [{"train": []}, {"train": {"rows_read": "x"}}, {"train": {"rows_read": 1, "kept": 1, "files": {"a": 1}}}]
)
def test_damaged_data_is_placed(run, data):
    (run / "data.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match=r"data\.json: damaged"):
        facts.read(run)


def test_a_run_named_twice_is_refused(run):
    with pytest.raises(ConfigError, match="named twice"):
        write.read([run, run.parent / "." / run.name])
