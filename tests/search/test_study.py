"""A search on disk: goes on after a kill, is shared, scores equal candidates once, and records what fails."""

from functools import partial
from multiprocessing import get_context

import landscapes
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import SuccessiveHalvingPruner
from searches import sampler

from nlpft.errors import ConfigError, Interrupted, TrainingError
from nlpft.search.space import SpaceConfig, canonical, space_of
from nlpft.search.study import CAUSE, COPY, check, open_study, results, run, size

SPACE = landscapes.bits(6)


def study_in(path, name="random", space=SPACE, pruner=None, seed=0):
    return open_study(path, space, sampler(name, space, 40, seed), pruner, direction="maximize")


def ones(trial, point):
    return landscapes.onemax(point)


@pytest.mark.parametrize("file", ["study.db", "study.log"])
def test_a_search_goes_on_from_what_is_on_disk(file, tmp_path):
    calls = []

    def score(trial, point):
        calls.append(point)
        if len(calls) == 8:
            raise Interrupted("killed")
        return ones(trial, point)

    with pytest.raises(Interrupted):
        run(study_in(tmp_path / file, "genetic"), SPACE, score, 20)
    found = run(study_in(tmp_path / file, "genetic"), SPACE, score, 20)
    assert found.scored == 20
    assert len(calls) == 21  # what was cut off is not counted, and no other is scored twice


def test_equal_candidates_are_scored_once():
    calls = []

    def score(trial, point):
        calls.append(tuple(point.values()))
        return ones(trial, point)

    study = study_in(None, "random")
    found = run(study, SPACE, score, 40)
    assert len(calls) == len(set(calls)) == found.scored
    copies = [trial for trial in study.trials if COPY in trial.user_attrs]
    assert len(copies) == found.copies > 0
    assert all(trial.value == study.trials[trial.user_attrs[COPY]].value for trial in copies)


def test_equal_networks_are_scored_once_and_end_the_search_when_all_are():
    """Of one to three blocks with a bit each, and one of the embeddings: 2 (2 + 4 + 8) networks, in 48 points."""
    space = space_of(SpaceConfig(least_blocks=1), 3)
    calls = []

    def score(trial, point):
        calls.append(tuple(sorted(canonical(point).items())))
        return 1.0

    found = run(study_in(None, space=space), space, score, 40, canonical)
    assert len(calls) == len(set(calls)) == found.scored == 28
    assert found.why == "all points of the space are scored"


def test_a_space_that_is_used_up_ends_the_search():
    space = {"x": CategoricalDistribution((0, 1, 2))}
    found = run(study_in(None, space=space), space, lambda trial, point: point["x"], 40)
    assert (found.scored, found.why, found.best.value) == (3, "all points of the space are scored", 2)


def work(path, seed):
    run(study_in(path, "genetic", seed=seed), SPACE, ones, 14)


@pytest.mark.parametrize("file", ["study.db", "study.log"])
def test_workers_share_a_search(file, tmp_path):
    study_in(tmp_path / file)
    workers = [get_context("spawn").Process(target=partial(work, tmp_path / file, seed)) for seed in (1, 2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    study = study_in(tmp_path / file)
    assert len(study.trials) >= 14
    assert sum(COPY not in trial.user_attrs for trial in study.trials) in (14, 15)


def test_a_candidate_that_fails_is_recorded_and_the_others_go_on():
    def score(trial, point):
        if point["bit00"]:
            raise ValueError("no such layer")
        return ones(trial, point)

    study = study_in(None)
    found = run(study, SPACE, score, 30)
    failed = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.FAIL]
    assert failed
    assert {trial.user_attrs[CAUSE] for trial in failed} == {"ValueError: no such layer"}
    assert "no such layer" in failed[0].user_attrs["traceback"]
    assert found.scored == 30
    assert found.best.value == 5


def test_a_score_that_is_no_number_counts_as_a_failure():
    study = study_in(None)
    run(study, SPACE, lambda trial, point: float("nan") if point["bit01"] else 1.0, 10)
    assert {t.user_attrs.get(CAUSE) for t in study.trials} == {None, "TrainingError: its score is nan"}


def test_where_all_fail_the_search_stops_with_the_first_cause():
    calls = []

    def score(trial, point):
        calls.append(1)
        raise RuntimeError(f"cause {len(calls)}")

    with pytest.raises(TrainingError, match="RuntimeError: cause 1"):
        run(study_in(None), SPACE, score, 30)
    assert len(calls) == 10


def test_hopeless_candidates_are_pruned():
    steps = []

    def score(trial, point):
        for step in range(1, 10):
            steps.append(trial.number)
            trial.report(ones(trial, point), step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return ones(trial, point)

    study = study_in(None, pruner=SuccessiveHalvingPruner(min_resource=1, reduction_factor=3))
    found = run(study, SPACE, score, 30)
    pruned = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.PRUNED]
    assert len(pruned) > 15
    assert len(steps) < 0.6 * 30 * 9
    assert found.scored == 30
    assert found.best.value == max(t.value for t in results(study))


def test_another_space_under_the_same_name_is_refused(tmp_path):
    study_in(tmp_path / "study.db")
    with pytest.raises(ConfigError, match=r"another space \(it differs in bit06"):
        study_in(tmp_path / "study.db", space=landscapes.bits(7))
    with pytest.raises(ConfigError, match="is to maximize"):
        open_study(tmp_path / "study.db", SPACE, sampler("random", SPACE, 1), direction="minimize")
    (tmp_path / "other.db").write_text("no database at all")
    with pytest.raises(ConfigError, match="cannot be opened as a study"):
        study_in(tmp_path / "other.db")


def test_spaces_and_budgets_that_leave_nothing_to_search_are_refused():
    with pytest.raises(ConfigError, match="empty"):
        check({}, 10)
    with pytest.raises(ConfigError, match="one point"):
        check({"x": CategoricalDistribution((1,)), "y": IntDistribution(3, 3)}, 10)
    with pytest.raises(ConfigError, match="budget 11: this search needs at least 12"):
        check(SPACE, 11, 12)


def test_a_space_has_so_many_points():
    space = {"a": CategoricalDistribution((1, 2, 3)), "b": IntDistribution(0, 10, step=5)}
    assert size(space) == 9
    assert size({**space, "c": FloatDistribution(0, 1, step=0.25)}) == 45
    assert size({**space, "c": FloatDistribution(0, 1)}) == float("inf")


def test_pruned_candidates_count_in_their_generation():
    """Else a genetic search with pruning would draw at random until a whole generation was completed."""

    def score(trial, point):
        trial.report(ones(trial, point), 1)
        if ones(trial, point) < 7:
            raise optuna.TrialPruned
        return ones(trial, point)

    space = landscapes.bits(12)
    study = study_in(None, "genetic", space)
    run(study, space, score, 36)
    generations = [trial.system_attrs["Genetic:generation"] for trial in study.trials]
    assert generations == [0] * 12 + [1] * 12 + [2] * 12
    last = [sum(trial.params.values()) for trial in study.trials]
    assert sum(last[24:]) > sum(last[:12]) + 12
