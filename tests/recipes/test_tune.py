"""recipes/tune.py: any recipe's settings are searched; the winner is judged by fresh seeds, on data that no candidate saw."""

import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import time

import corpora
import optuna
import pytest
import quick_recipe
import sft
import tiny
import tiny_heads
import tune
import yaml

from nlpft import config
from nlpft.data.convert import Options, convert
from nlpft.data.tokenizer import TextTokenizer
from nlpft.errors import ConfigError, DataError, TrainingError
from nlpft.search.study import CAUSE
from nlpft.training import run_trials
from nlpft.training.runs import Recipe

SPACE = ("optim.lr=1e-5..1e-1:log", "data.rows_per_step=4|8|16", "tuning.rank=4..64")


@pytest.fixture
def place(tmp_path):
    settings = {"eval_every": 1, "seed": 3, "data": {"train": str(tmp_path / "train"), "eval": str(tmp_path / "eval")}}
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    for name in ("train", "eval", "test"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows").write_text(name)
    return tmp_path


def change(place, **settings):
    whole = yaml.safe_load((place / "settings.yaml").read_text())
    (place / "settings.yaml").write_text(yaml.safe_dump({**whole, **settings}))


def parsed(place, *more, space=SPACE, **settings):
    fixed = {"settings": place / "settings.yaml", "test": place / "test", "output_dir": place / "run", "budget": 6,
             "search.name": "random", "recipe": "quick_recipe", **settings}  # fmt: skip
    words = [word for name, value in fixed.items() for word in (f"--{name}", str(value))]
    return config.parse(tune.Config, [*words, *more, *(["--space", *space] if space else [])])


def go(place, *more, **settings):
    return tune.main(parsed(place, *more, **settings))


def runs(place) -> list[dict]:
    """What the runs so far were told to do."""
    file = place / "runs.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def trials(place) -> list:
    return optuna.load_study(study_name="search", storage=f"sqlite:///{place}/run/search.db").trials


def test_candidates_have_the_values_of_their_trials_and_never_see_the_test_data(place):
    go(place, "--no_prune")
    searched, finals = runs(place)[:6], runs(place)[6:]
    assert [(one["lr"], str(one["rows"])) for one in searched] == [
        (trial.params["optim.lr"], trial.params["data.rows_per_step"]) for trial in trials(place)
    ]
    assert {one["seed"] for one in searched} == {3}
    assert {one["eval"] for one in searched} == {str(place / "eval")}
    # three finalists on data.eval; then the winner, and the settings as given, on the test data; each with seeds of its own
    assert [one["seed"] for one in finals[:9]] == [4, 5, 6] * 3
    # each twice: data.eval says which step is best, and that step is scored
    assert [one["seed"] for one in finals[9:]] == [7, 7, 8, 8, 9, 9] * 2
    assert [one["eval"] for one in finals[9:]] == [str(place / "eval"), str(place / "test")] * 6
    assert {one["eval"] for one in finals[:9]} == {str(place / "eval")}
    assert {one["lr"] for one in finals[-3:]} == {quick_recipe.Config().optim.lr}


def test_the_winner_has_the_best_mean_and_its_settings_can_be_run(place):
    found = go(place, "--no_prune")
    means = [one["eval"]["mean"] for one in found["finalists"]]
    assert means == sorted(means)
    assert len(means) == 3
    winner = config.load(quick_recipe.Config, place / "run/winner.yaml")
    assert (winner.optim.lr, str(winner.data.rows_per_step), winner.tuning.rank) == tuple(found["winner"][n] for n in
        ("optim.lr", "data.rows_per_step", "tuning.rank"))  # fmt: skip
    scores = found["test"]
    gaps = [a - b for a, b in zip(scores["winner"]["seeds"], scores["given"]["seeds"], strict=True)]
    assert scores["gap"]["seeds"] == pytest.approx(gaps)
    assert scores["gap"]["settled"]
    assert scores["gap"]["mean"] < 0
    assert json.loads((place / "run/result.json").read_text()) == found


@pytest.mark.parametrize("name", ["genetic", "annealing", "tpe", "grid"])
def test_every_search_comes_near_the_best_settings(name, place):
    found = go(place, "--no_prune", **{"search.name": name, "budget": 24, "seeds": 2, "finalists": 1})
    assert found["winner"]["data.rows_per_step"] == "8"
    assert found["candidates"][0]["score"] < 2.1  # the best has 1, and a point in the middle of the space 3


def test_a_search_that_is_over_runs_nothing_again_and_a_larger_budget_goes_on(place):
    first = go(place, "--no_prune")
    begun = len(runs(place))
    assert go(place, "--no_prune") == first
    assert len(runs(place)) == begun
    assert go(place, "--no_prune", budget=7)["scored"] == 7
    assert len(runs(place)) > begun


def test_hopeless_runs_end_early_and_the_best_do_not(place):
    found = go(place, budget=18)
    cut = [trial for trial in trials(place) if trial.state.name == "PRUNED"]
    whole = [trial for trial in trials(place) if trial.state.name == "COMPLETE"]
    assert found["scored"] == 18
    assert len(cut) > 9
    assert all(max(trial.intermediate_values) < run_trials.PARTS for trial in cut)
    assert all(max(trial.intermediate_values) == run_trials.PARTS for trial in whole)
    best = min(trials(place), key=lambda trial: min(trial.intermediate_values.values()))
    assert best in whole


def test_a_run_that_fails_is_recorded_and_the_search_goes_on(place):
    found = go(place, "--no_prune", space=("data.rows_per_step=13|8", "optim.lr=1e-4|1e-3"))
    assert {trial.user_attrs.get(CAUSE) for trial in trials(place)} == {None, "RuntimeError: no such kernel"}
    assert found["winner"]["data.rows_per_step"] == "8"


def test_where_all_runs_fail_the_first_cause_is_told(place):
    with pytest.raises(TrainingError, match="first cause: RuntimeError: no such kernel"):
        go(place, "--no_prune", space=("data.rows_per_step=13", "optim.lr=1e-4|1e-3"))


def test_workers_share_a_search(place):
    """Each of the first two runs waits for the other."""
    whole = yaml.safe_load((place / "settings.yaml").read_text())
    whole["data"]["together"] = 2
    (place / "settings.yaml").write_text(yaml.safe_dump(whole))
    found = go(place, "--no_prune", workers=2, budget=4, finalists=1, seeds=2)
    assert found["scored"] in (4, 5)
    assert {trial.state.name for trial in trials(place)} == {"COMPLETE"}


def start(place):
    go(place, "--no_prune", budget=50, space=(*SPACE, "data.slow=0.2..0.3"))


def test_a_killed_search_goes_on(place):
    process = multiprocessing.get_context("spawn").Process(target=start, args=(place,))
    process.start()
    while len(runs(place)) < 4:
        time.sleep(0.05)
        assert process.is_alive()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    found = go(place, "--no_prune", budget=6, space=(*SPACE, "data.slow=0.2..0.3"))
    assert found["scored"] == 6
    states = [trial.state.name for trial in trials(place)]
    assert states.count("COMPLETE") == 6
    assert states[:3] == ["COMPLETE"] * 3
    assert states.count("RUNNING") <= 1


def test_classify_is_led_by_its_evaluations_and_scores_its_own_test_data(place, tmp_path):
    bert = tiny_heads.save_bert(tmp_path / "bert")
    data = tiny_heads.classified(tmp_path, bert)
    settings = {"model": str(bert), "epochs": 1, "eval_every": 1, "optim": {"lr": 0.01},
                "data": {"train": f"{data}/train", "eval": f"{data}/eval", "rows_per_step": 12}}  # fmt: skip
    (place / "settings.yaml").write_text(yaml.safe_dump(settings))
    found = go(
        place, recipe="classify", test=data / "test", budget=2, finalists=1, seeds=2, space=("optim.lr=1e-4|1e-2",)
    )
    assert found["scored"] == 2
    assert all(len(trial.intermediate_values) in (1, 2) for trial in trials(place))
    assert found["winner"] == {"optim.lr": "1e-2"}
    assert found["test"]["winner"]["seeds"] == found["test"]["given"]["seeds"], "the same settings, seeds and data"
    assert [path.name for path in (place / "run/runs").rglob("*") if path.is_dir()] == ["final"], "no weights are left"
    assert "held-out loss" in (place / "run/runs/0000.log").read_text()


def test_sft_is_searched_too_targets_of_lora_among_its_settings(place, tiny_folder):
    rows = [tiny.chat("word " * (1 + n % 9), f"reply {n} " * (1 + n % 7)) for n in range(12)]
    for name in ("train", "eval", "test"):
        shutil.rmtree(place / name)
        convert([tiny.write_json(place / "rows.json", rows)], place / name, TextTokenizer(tiny_folder), Options())
    settings = {"model": str(tiny_folder), "max_steps": 2, "tuning": {"rank": 2},
                "data": {"train": str(place / "train"), "eval": str(place / "eval"), "max_length": 128}}  # fmt: skip
    (place / "settings.yaml").write_text(yaml.safe_dump(settings))
    fixed = {"recipe": "sft", "budget": 2, "finalists": 1, "seeds": 2}
    found = go(place, "--no_prune", space=("tuning.targets=all-linear|q_proj v_proj",), **fixed)
    assert {one["tuning.targets"] for one in found["candidates"]} == {"all-linear", "q_proj v_proj"}
    assert len({one["score"] for one in found["candidates"]}) == 2
    winner = config.load(sft.Config, place / "run/winner.yaml")
    assert " ".join(winner.tuning.targets) == found["winner"]["tuning.targets"]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ((), "search space is empty"),
        (("optim.lr=1e-4",), "one point"),
        (("optim.rl=1e-4|1e-3",), "'optim.lr'"),
        (("optim.lr=1e-4|quick",), "quick"),
        (("optim.schedule=linear|quick",), "quick"),
        (("seed=1..9",), "not a setting to search"),
        (("tuning.train_last=1|2",), "no such setting"),
    ],
)
def test_spaces_that_could_not_be_searched_are_refused_before_anything_runs(space, message, place):
    with pytest.raises(ConfigError, match=message):
        go(place, "--no_prune", space=space)
    assert not runs(place)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"search.name": "genetic"}, "budget 6: this search needs at least 12"),
        ({"test": "eval"}, "does not see"),
        ({"settings": ""}, "cannot be read"),
        ({"settings": "no_eval.yaml"}, "set data.eval"),
        ({"settings": "no_rungs.yaml"}, "set eval_every"),
        ({"recipe": "crossval"}, "no recipe of one training"),
        ({"recipe": "clasify"}, "cannot be imported"),
        ({"seeds": 1}, "at least 2"),
        ({"workers": 0}, "at least 1"),
    ],
)
def test_searches_that_could_not_end_well_are_refused_before_anything_runs(more, message, place):
    whole = yaml.safe_load((place / "settings.yaml").read_text())
    (place / "no_rungs.yaml").write_text(yaml.safe_dump({**whole, "eval_every": 0}))
    (place / "no_eval.yaml").write_text(yaml.safe_dump({**whole, "data": {**whole["data"], "eval": None}}))
    paths = {name: place / value if name in ("test", "settings") else value for name, value in more.items()}
    with pytest.raises(ConfigError, match=message):
        go(place, **paths)
    assert not runs(place)


def test_another_space_or_other_settings_in_the_same_folder_are_refused(place):
    go(place, "--no_prune")
    with pytest.raises(ConfigError, match="another space"):
        go(place, "--no_prune", space=SPACE[:2])
    with pytest.raises(ConfigError, match="seed: 0 then, 1 now"):
        go(place, "--no_prune", seed=1)


def finish(place, **more):
    go(place, "--no_prune", budget=2, finalists=1, seeds=2, space=(*SPACE, "data.slow=0.2..0.3"), **more)


def spawn(place):
    process = multiprocessing.get_context("spawn").Process(target=finish, args=(place,))
    process.start()
    return process


def test_a_search_that_was_killed_in_its_finals_goes_on(place):
    """What a run leaves in its folder makes the next run there fail, as with every recipe of nlpft."""
    whole = yaml.safe_load((place / "settings.yaml").read_text())
    change(place, data={**whole["data"], "writes": True})
    process = spawn(place)
    while not list((place / "run/runs/final").glob("*/config.yaml")):
        time.sleep(0.02)
        assert process.is_alive()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert list((place / "run/runs/final").glob("*/config.yaml")), "killed too late"
    finish(place)
    assert not list((place / "run/runs").rglob("config.yaml"))


def test_two_calls_at_once_in_one_folder_come_to_one_result(place):
    whole = yaml.safe_load((place / "settings.yaml").read_text())
    change(place, data={**whole["data"], "writes": True})
    both = [spawn(place), spawn(place)]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]


def test_other_settings_under_the_same_name_are_refused_by_name(place):
    go(place, "--no_prune")
    begun = len(runs(place))
    change(place, max_steps=6)
    with pytest.raises(ConfigError, match="max_steps: None then, 6 now"):
        go(place, "--no_prune")
    assert len(runs(place)) == begun


@pytest.mark.parametrize("name", ["train", "eval"])
def test_other_data_under_the_same_path_are_refused(name, place):
    go(place, "--no_prune")
    (place / name / "rows").write_text("others")
    with pytest.raises(ConfigError, match=f"contents of data.{name}"):
        go(place, "--no_prune")


def test_other_test_data_under_the_same_path_are_scored_anew(place):
    go(place, "--no_prune")
    begun = len(runs(place))
    (place / "test/rows").write_text("others")
    go(place, "--no_prune")
    assert [one["seed"] for one in runs(place)[begun:]] == [7, 7, 8, 8, 9, 9] * 2


def test_a_study_that_does_not_say_what_its_scores_came_by_is_refused(place):
    go(place, "--no_prune")
    (place / "run/base.json").unlink()
    with pytest.raises(ConfigError, match="does not say by which settings"):
        go(place, "--no_prune")


@pytest.mark.parametrize("name", ["train", "eval", "test"])
def test_data_that_are_not_there_are_told_of_before_anything_runs(name, place):
    shutil.rmtree(place / name)
    with pytest.raises(ConfigError, match=f"{name}: no dataset"):
        go(place, "--no_prune")
    assert not runs(place)
    assert not (place / "run").exists()


def test_settings_that_the_recipe_refuses_are_told_of_before_anything_runs(place):
    change(place, max_steps=-1)
    with pytest.raises(ConfigError, match="at least one step"):
        go(place, "--no_prune")
    assert not runs(place)


@pytest.mark.parametrize(("name", "value"), [("budget", -1), ("seed", -1), ("finalists", -1), ("seeds", -3)])
def test_negative_counts_are_refused(name, value, place):
    with pytest.raises(ConfigError, match=name):
        go(place, "--no_prune", **{name: value})
    assert not (place / "run").exists()


def test_the_test_data_score_the_step_that_is_best_on_the_held_out_data(place):
    """The loss on data.eval is least at step 5 of 9, and rises behind it; on the test data it falls to the end."""
    whole = yaml.safe_load((place / "settings.yaml").read_text())
    change(place, data={**whole["data"], "turns_at": 5})
    found = go(place, "--no_prune", finalists=1, seeds=2)
    winner = config.load(quick_recipe.Config, place / "run/winner.yaml")
    at_five = [quick_recipe.loss_of(dataclasses.replace(winner, seed=seed)) + 4 / 9 for seed in (6, 7)]
    assert found["test"]["winner"]["seeds"] == pytest.approx(at_five)


def test_only_the_verdict_on_the_test_data_says_better(place, capsys):
    go(place, "--no_prune")
    said = capsys.readouterr().out
    assert [line for line in said.splitlines() if "better" in line or "no difference" in line] == [
        said.splitlines()[-1]
    ]
    assert f"on {place}/test: " in said.splitlines()[-1]
    assert "mean loss on data.eval with 3 fresh seeds, which chose the winner:" in said


def test_every_trial_is_said_on_the_screen_pruned_and_failed_ones_too(place, capsys):
    go(place, budget=18, space=("data.rows_per_step=13|8|16|64", "optim.lr=1e-5..1e-1:log"))
    said = capsys.readouterr().out
    states = [trial.state.name for trial in trials(place) if "copy_of" not in trial.user_attrs]
    assert said.count("  pruned at step ") == states.count("PRUNED") > 0
    assert said.count("  failed  ") == states.count("FAIL") > 0
    assert said.count("\n") > len(states)


def test_a_measure_is_named_and_shown_as_users_know_it(place, tmp_path, capsys):
    bert = tiny_heads.save_bert(tmp_path / "bert")
    data = tiny_heads.classified(tmp_path, bert)
    settings = {"model": str(bert), "max_steps": 1, "eval_every": 1, "best": "accuracy",
                "data": {"train": f"{data}/train", "eval": f"{data}/eval", "rows_per_step": 12}}  # fmt: skip
    (place / "settings.yaml").write_text(yaml.safe_dump(settings))
    fixed = {"recipe": "classify", "test": data / "test", "budget": 2, "finalists": 2, "seeds": 2}
    found = go(place, "--no_prune", space=("optim.lr=1e-4|1e-2",), **fixed)
    means = [one["eval"]["mean"] for one in found["finalists"]]
    scores = [one["score"] for one in found["candidates"]]
    assert found["measure"] == "accuracy"
    assert all(0 <= value <= 1 for value in (*means, *scores, *found["test"]["winner"]["seeds"]))
    assert means == sorted(means, reverse=True)
    assert scores == sorted(scores, reverse=True)
    assert [trial.user_attrs["accuracy"] for trial in trials(place)] == [-trial.value for trial in trials(place)]
    assert "accuracy 0." in capsys.readouterr().out
    change(place, best="acuracy")
    with pytest.raises(ConfigError, match="no measure of"):
        go(place, "--no_prune", space=("optim.lr=1e-4|1e-2",), **{**fixed, "output_dir": place / "other"})
    change(place, best="accuracy", data={**settings["data"], "train": str(place / "nowhere")})
    with pytest.raises(DataError, match="nowhere"):
        go(place, "--no_prune", space=("optim.lr=1e-4|1e-2",), **{**fixed, "output_dir": place / "other"})
    assert not (place / "other").exists()


def test_pretraining_from_random_weights_is_checked_by_the_tokenizer_it_will_have(place, tiny_folder):
    text = corpora.write_text(place / "corpus.txt")
    shutil.rmtree(place / "train")
    convert([text], place / "train", TextTokenizer(tiny_folder), Options(format="text", max_length=64))
    model = corpora.write_config(place, "decoder")
    for name in ("eval", "test"):
        shutil.copytree(place / "train", place / f"own_{name}")
    data = {"train": str(place / "train"), "eval": str(place / "own_eval")}
    settings = {"from_config": str(model), "tokenizer": str(tiny_folder), "model": "nowhere", "data": data}
    (place / "settings.yaml").write_text(yaml.safe_dump(settings))
    Recipe("pretrain", place / "settings.yaml").preflight(place / "own_test")
    with pytest.raises(DataError, match="nowhere"):
        Recipe("pretrain", place / "settings.yaml").preflight(place / "nowhere")
