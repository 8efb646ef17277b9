"""recipes/classify.py and tag.py: pinned by exact losses, equal however a step is cut, scored, and good for `nlpft predict`."""

import csv
import json

import classify
import processes
import pytest
import tag
import tiny_heads
from safetensors.torch import load_file

from nlpft import cli, config
from nlpft.data.labelled.convert import convert
from nlpft.data.labelled.options import LabelOptions
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ConfigError, Interrupted
from nlpft.evaluation import compare
from nlpft.models import heads
from nlpft.training import checkpoint, policy, preflight


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_heads.save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def labels(tmp_path_factory, bert):
    return tiny_heads.classified(tmp_path_factory.mktemp("labels"), bert)


@pytest.fixture(scope="module")
def tags(tmp_path_factory, bert):
    return tiny_heads.tagged(tmp_path_factory.mktemp("tags"), bert)


def train(recipe, run, model, data, *more, **settings):
    fixed = {"model": model, "output_dir": run, "data.train": data / "train", "data.eval": data / "eval",
             "data.rows_per_step": 5, "max_steps": 6, "optim.lr": 0.001, "optim.warmup": 0, "seed": 1}  # fmt: skip
    words = [word for key, value in {**fixed, **settings}.items() for word in (f"--{key}", str(value))]
    recipe.main(config.parse(recipe.Config, [*words, *more]))
    return [json.loads(line) for line in (run / "metrics.jsonl").open()]


def losses(lines, kind="train"):
    return [line["loss"] for line in lines if line["kind"] == kind]


METHODS = {
    "full": [],
    "lora": ["--tuning.name", "lora", "--tuning.rank", "4"],
    "freeze": ["--tuning.name", "freeze", "--tuning.train_last", "1"],
    "head_only": ["--tuning.name", "head_only"],
    "gradual": ["--tuning.name", "gradual"],
}
PINNED = {  # a change here is a change of what users' runs compute: say why in the commit
    "full": [0.92648, 1.26687, 1.80963, 0.72945, 0.4027, 0.74128],
    "lora": [0.92648, 1.15103, 1.5449, 0.691, 0.47066, 0.80083],
    "freeze": [0.92648, 1.08858, 1.40985, 0.61977, 0.42619, 0.7807],
    "head_only": [0.92648, 1.0758, 1.17679, 0.56941, 0.43819, 0.84223],
    "gradual": [0.92648, 1.08858, 1.40985, 0.56672, 0.41179, 0.60856],
    "tag": [2.24553, 1.60235, 1.49221, 1.82782, 1.12175, 1.04692],
}


@pytest.mark.parametrize("method", METHODS)
def test_losses_are_pinned(method, tmp_path, bert, labels):
    got = losses(train(classify, tmp_path / "run", bert, labels, *METHODS[method]))
    assert got == pytest.approx(PINNED[method], rel=1e-4)


def test_features_computed_once_change_no_loss_of_a_head(tmp_path, bert, labels):
    found = train(classify, tmp_path / "run", bert, labels, *METHODS["head_only"], **{"data.features": "once"})
    assert losses(found) == pytest.approx(PINNED["head_only"], rel=1e-4)
    with pytest.raises(ConfigError, match=r"data\.features once: .* trains"):
        train(classify, tmp_path / "full", bert, labels, **{"data.features": "once"})


def test_mixed_texts_do_not_depend_on_how_a_step_is_cut(tmp_path, bert, labels):
    plain = losses(train(classify, tmp_path / "plain", bert, labels))
    mixed = {"data.mixup": 1.0}
    whole = losses(train(classify, tmp_path / "whole", bert, labels, **mixed))
    assert whole != pytest.approx(plain, rel=1e-3)
    cut = losses(train(classify, tmp_path / "cut", bert, labels, **mixed, **{"data.tokens_per_micro_batch": 9}))
    assert cut == pytest.approx(whole, rel=1e-4)
    once = {**mixed, "data.features": "once"}
    head, features = (
        losses(train(classify, tmp_path / name, bert, labels, *METHODS["head_only"], **settings))
        for name, settings in (("head", mixed), ("features", once))
    )
    assert features == pytest.approx(head, rel=1e-4)
    with pytest.raises(ConfigError, match=r"data\.mixup: the model takes no rows without padding"):
        train(classify, tmp_path / "padded", bert, labels, **mixed, **{"compute.attention": "sdpa"})


def test_cut_mixed_words_are_learnt_and_refused_for_texts(tmp_path, bert, tags, labels):
    plain = losses(train(tag, tmp_path / "plain", bert, tags, max_steps=3))
    mixed = losses(
        train(tag, tmp_path / "mixed", bert, tags, **{"max_steps": 40, "data.cut_mix": 0.7, "optim.lr": 0.01})
    )
    assert mixed[:3] != pytest.approx(plain, rel=1e-3)
    assert sum(mixed[-4:]) < 0.5 * sum(mixed[:4])
    with pytest.raises(ConfigError, match=r"data\.cut_mix: for words with tags"):
        train(classify, tmp_path / "texts", bert, labels, **{"data.cut_mix": 0.5})


def test_features_of_a_decoder_are_those_its_head_reads(tmp_path, tiny_folder):
    data = tiny_heads.classified(tmp_path, tiny_folder)
    each, once = (
        losses(train(classify, tmp_path / how, tiny_folder, data, *METHODS["head_only"], **{"data.features": how}))
        for how in ("each_step", "once")
    )
    assert once == pytest.approx(each, rel=1e-4)


@pytest.mark.parametrize("sampling", ["over", "smote"])
def test_a_rare_label_is_learnt_from_a_sampled_run_that_resumes_exactly(sampling, tmp_path, bert, monkeypatch):
    pytest.importorskip("imblearn")
    data = uneven(tmp_path, bert)
    settings = {"data.sampling": sampling, "checkpoint.every": 3, "epochs": 1}
    more = METHODS["head_only"]
    whole = [
        line for line in train(classify, tmp_path / "whole", bert, data, *more, **settings) if line["kind"] == "train"
    ]
    assert sum(line["targets"] for line in whole[:6]) == 30
    save = checkpoint.save

    def killed(*args, **kwargs):
        save(*args, **kwargs)
        raise Interrupted("killed")

    monkeypatch.setattr(checkpoint, "save", killed)
    with pytest.raises(Interrupted):
        train(classify, tmp_path / "cut", bert, data, *more, **settings)
    monkeypatch.undo()
    train(classify, tmp_path / "cut", bert, data, *more, "--resume", **settings)
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "cut"))
    assert all(one[name].equal(other[name]) for name in one)


def uneven(folder, bert):
    """A dataset folder in which one text in five is `yes`."""
    rows = tiny_heads.texts(60)
    kept = [row for n, row in enumerate(rows) if row[0] == "no" or n % 8 == 0]
    named = []
    for split in ("train", "eval"):
        (folder / f"{split}.tsv").write_text(
            "text\tlabel\n" + "".join(f"{t}\t{label}\n" for label, t in kept), encoding="utf-8"
        )
        named.append(f"{split}={folder / split}.tsv")
    convert(named, folder / "out", TextTokenizer(bert), LabelOptions(), model=str(bert))
    return folder / "out"


def test_losses_of_tags_are_pinned(tmp_path, bert, tags):
    assert losses(train(tag, tmp_path / "run", bert, tags)) == pytest.approx(PINNED["tag"], rel=1e-4)


@pytest.mark.parametrize("settings", [{"data.tokens_per_micro_batch": 9}, {"compute.attention": "sdpa"}])
def test_neither_micro_batches_nor_padding_change_a_step(settings, tmp_path, bert, labels):
    whole = losses(train(classify, tmp_path / "whole", bert, labels))
    assert losses(train(classify, tmp_path / "cut", bert, labels, **settings)) == pytest.approx(whole, rel=1e-4)


def test_a_resumed_run_ends_in_the_same_weights(tmp_path, bert, labels, monkeypatch):
    train(classify, tmp_path / "whole", bert, labels)
    save = checkpoint.save

    def killed(*args, **kwargs):
        save(*args, **kwargs)
        raise Interrupted("killed")

    monkeypatch.setattr(checkpoint, "save", killed)
    every = {"checkpoint.every": 3}
    with pytest.raises(Interrupted):
        train(classify, tmp_path / "cut", bert, labels, **every)
    monkeypatch.undo()
    train(classify, tmp_path / "cut", bert, labels, "--resume", **every)
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "cut"))
    assert all(one[name].equal(other[name]) for name in one)


def on_processes(bert, data, run):
    train(classify, run, bert, data, **{"data.tokens_per_micro_batch": 20, "data.test": data / "test"})


def test_two_processes_compute_what_one_does(tmp_path, bert, labels):
    on_processes(bert, labels, tmp_path / "one")
    processes.run(on_processes, 2, bert, labels, tmp_path / "two")
    one, two = ([json.loads(x) for x in (tmp_path / run / "metrics.jsonl").open()] for run in ("one", "two"))
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    scores = [json.loads((tmp_path / run / "eval/test/results.json").read_text())["results"] for run in ("one", "two")]
    one, two = ({k: v for k, v in found["classification"].items() if k != "alias"} for found in scores)
    assert one == pytest.approx(two, rel=1e-4)


def test_the_best_by_a_named_measure_is_what_is_saved_and_scored(tmp_path, bert, labels):
    more = {"eval_every": 1, "best": "accuracy", "data.test": labels / "test", "max_steps": 12}
    lines = train(classify, tmp_path / "run", bert, labels, **more)
    found = [line for line in lines if line["kind"] == "eval"]
    best = max(line["accuracy"] for line in found)
    results = json.loads((tmp_path / "run/eval/eval/results.json").read_text())["results"]["classification"]
    assert results["accuracy,none"] == pytest.approx(best)
    assert best > found[0]["accuracy"]
    assert {"f1", "matthews_correlation", "roc_auc", "calibration_error"} <= found[0].keys()
    assert len((tmp_path / "run/eval/test/samples_classification.jsonl").read_text().splitlines()) == 9


def test_two_runs_are_compared_item_by_item(tmp_path, bert, labels):
    for name, rate in {"one": 1e-6, "other": 0.001}.items():
        train(classify, tmp_path / name, bert, labels, **{"optim.lr": rate, "max_steps": 20})
    found = {c.metric: c for c in compare.compare(tmp_path / "one/eval/eval", tmp_path / "other/eval/eval")}
    assert found["accuracy"].n == 9
    assert found["loss"].difference < 0


@pytest.mark.parametrize("method", ["full", "lora"])
def test_predict_answers_every_row_in_its_place(method, tmp_path, bert, labels):
    train(classify, tmp_path / "run", bert, labels, *METHODS[method], **{"optim.lr": 0.003, "max_steps": 60})
    (tmp_path / "in.csv").write_text('id,text\n7,"good, very good"\n8,\n9,bad bad film\n', encoding="utf-8")
    words = ["predict", str(tmp_path / "run"), str(tmp_path / "in.csv"), "-o", str(tmp_path / "out.csv")]
    assert cli.main(words) == 0
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert [(row["id"], row["prediction"]) for row in rows] == [("7", "yes"), ("8", ""), ("9", "no")]
    assert float(rows[0]["p_yes"]) == pytest.approx(float(rows[0]["probability"]))
    assert float(rows[0]["p_yes"]) + float(rows[0]["p_no"]) == pytest.approx(1, abs=1e-5)


def test_predict_does_not_read_labels_in_front_of_lines(tmp_path, bert, labels, capsys):
    train(classify, tmp_path / "run", bert, labels, max_steps=2)
    lines = {
        "with": "yes good film\nno bad film\n",
        "without": "good film\nbad film\n",
        "some": "yes good film\nbad film\n",
    }
    found = {}
    for name, text in lines.items():
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
        assert (
            cli.main(
                ["predict", str(tmp_path / "run"), str(tmp_path / f"{name}.txt"), "-o", str(tmp_path / f"{name}.jsonl")]
            )
            == 0
        )
        found[name] = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").open()]
        assert ("the model did not see them" in capsys.readouterr().err) == (name == "with")
    assert [row.pop("label") for row in found["with"]] == ["yes", "no"]
    assert found["with"] == found["without"]
    assert [row["text"] for row in found["some"]] == ["yes good film", "bad film"]


@pytest.mark.parametrize("recipe", [classify, tag], ids=["classify", "tag"])
def test_a_run_that_diverges_is_scored_without_numbers(recipe, tmp_path, bert, labels, tags, capsys):
    data = tags if recipe is tag else labels
    train(recipe, tmp_path / "run", bert, data, **{"data.eval": data / "eval", "max_steps": 2, "optim.lr": 1e30})
    assert "there is no best step" in capsys.readouterr().err
    found = json.loads((tmp_path / "run/eval/eval/results.json").read_text(), parse_constant=pytest.fail)
    assert not any("loss" in values or "accuracy" in values for values in found["results"].values())
    assert "not a finite number" in " ".join(found["nlpft"]["errors"].values())


def test_predict_tags_every_word(tmp_path, bert, tags):
    train(tag, tmp_path / "run", bert, tags, **{"optim.lr": 0.01, "max_steps": 60})
    long = "anna met paris " * 40  # the model sees 64 tokens
    (tmp_path / "in.txt").write_text(f"anna met rome\n\n{long}\n", encoding="utf-8")
    for ending in ("jsonl", "conll"):
        assert (
            cli.main(["predict", str(tmp_path / "run"), str(tmp_path / "in.txt"), "-o", str(tmp_path / f"o.{ending}")])
            == 0
        )
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").open()]
    assert [row["prediction"] for row in rows[:2]] == [["B-person", "O", "B-place"], []]
    assert rows[2]["prediction"][:3] == ["B-person", "O", "B-place"]
    assert len(rows[2]["prediction"]) == len(rows[2]["probability"]) == 120
    assert (tmp_path / "o.conll").read_text().splitlines()[:4] == ["anna\tB-person", "met\tO", "rome\tB-place", ""]


def test_a_decoder_takes_a_head_too(tmp_path, tiny_folder):
    data = tiny_heads.classified(tmp_path, tiny_folder)
    found = train(classify, tmp_path / "run", tiny_folder, data, max_steps=40)
    assert losses(found)[-1] < 0.5 * losses(found)[0]
    assert heads.task_of(heads.trained_head(str(tmp_path / "run/model"))).labels == ("no", "yes")


def test_noise_on_embeddings_is_drawn_or_refused(tmp_path, bert, labels):
    plain = losses(train(classify, tmp_path / "plain", bert, labels, max_steps=1))
    noisy = losses(train(classify, tmp_path / "noisy", bert, labels, **{"max_steps": 1, "regularize.neftune": 50.0}))
    assert noisy != pytest.approx(plain, rel=1e-3)
    with pytest.raises(ConfigError, match=r"regularize\.neftune: BertForSequenceClassification"):
        train(classify, tmp_path / "x", bert, labels, **{"regularize.neftune": 5.0, "compute.attention": "sdpa"})


def test_a_policy_chooses_by_rows_and_says_why(bert, labels):
    few, some, many = (policy.by_rows(rows, 6) for rows in (24, 25, 200))
    assert (few.tuning.name, some.tuning.name, some.tuning.train_last, many.tuning.name) == (
        "head_only",
        "freeze",
        3,
        "full",
    )
    cfg = classify.Config(model=str(bert), policy="auto", data=classify.ExamplesConfig(train=labels / "train"))
    chosen, why = policy.chosen(cfg)
    assert chosen.tuning.name == "head_only"
    assert "24 rows" in why
    with pytest.raises(ConfigError, match="policy auto chooses tuning"):
        policy.chosen(
            config.parse(classify.Config, ["--policy", "auto", "--tuning.name", "lora", "--model", str(bert)])
        )


def test_data_of_the_other_task_or_an_unknown_measure_is_refused(tmp_path, bert, labels, tags):
    with pytest.raises(ConfigError, match=r"recipes/tag\.py"):
        train(classify, tmp_path / "a", bert, tags)
    with pytest.raises(ConfigError, match="best 'acuracy'"):
        train(classify, tmp_path / "b", bert, labels, best="acuracy")
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def test_a_trial_of_packs_is_refused_where_there_are_none():
    with pytest.raises(ConfigError, match="preflight: tries the largest micro-batch of packs"):
        preflight.check(classify.Config(preflight=True))
