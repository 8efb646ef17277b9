"""A step without a learnt token, or with a loss or gradient that is not finite: it changes nothing, and its rows are named."""

import copy
import re
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
import tiny
import torch
from accelerate import Accelerator

from nlpft import plugins
from nlpft.data.collate import collate
from nlpft.data.columns import lists
from nlpft.data.loader import DataConfig, PackedData, Share
from nlpft.errors import ConfigError, DataError, RunExists, TrainingError
from nlpft.training import bad_steps
from nlpft.training.bad_steps import BadStepConfig, BadSteps, rescued
from nlpft.training.loop import OneLate, Readback, StepReport, StepSettings, train_steps
from nlpft.training.optimizers import OPTIMIZERS, Numbers

OBJECTIVE = plugins.load("objectives", "causal_lm")
CAUSAL = OBJECTIVE.build(OBJECTIVE.Config(), None)
CONFIG = DataConfig(packs_per_step=2)


def data(learnt=True, lengths=(90, 80, 70, 100), **options):
    """Four rows, `chats.json:1` to 4, too long to share a pack of 128."""
    offsets = np.cumsum([0, *lengths])
    ids = np.random.default_rng(0).integers(0, 400, offsets[-1])
    columns = {"input_ids": lists(ids, offsets), "labels": lists(ids if learnt else np.full_like(ids, -100), offsets)}
    places = [f"chats.json:{n}" for n in range(1, len(lengths) + 1)]
    return PackedData(None, 128, table=pa.table({**columns, "source": places}), **options)


def not_finite_at(length, value=float("nan")):
    """The loss, but `value` for packs of `length` tokens."""
    return lambda model, batch: CAUSAL(model, batch) * (value if batch["input_ids"].shape[1] == length else 1.0)


OPTIMISERS = {
    "fused AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, foreach=True),
}


def state(model, optimizer):
    return copy.deepcopy((list(model.state_dict().values()), [list(s.values()) for s in optimizer.state.values()]))


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one[0], other[0], strict=True)) and all(
        torch.equal(a, b) for x, y in zip(one[1], other[1], strict=True) for a, b in zip(x, y, strict=True)
    )


@pytest.mark.parametrize("make", OPTIMISERS.values(), ids=OPTIMISERS)
@pytest.mark.parametrize(
    ("bad", "loss", "problem"),
    [
        (data(), not_finite_at(90), "the loss is not finite"),
        (data(), not_finite_at(90, float("inf")), "the loss is not finite"),
        (data(learnt=False), CAUSAL, "no learnt token"),
    ],
)
def test_a_bad_step_changes_no_weight_and_no_moment(make, bad, loss, problem):
    model = tiny.make_model()
    optimizer = make(model.parameters())
    good = [collate(data().columns, [1]), collate(data().columns, [2])]
    steps = [good, [good[0], collate(bad.columns, [0])] if loss is not CAUSAL else [collate(bad.columns, [0])], good]
    settings = StepSettings(lambda step: 0.01)
    reports = train_steps(Accelerator(cpu=True), model, optimizer, steps, loss, OBJECTIVE.num_targets, settings)
    assert next(reports).problem == ""
    before = state(model, optimizer)
    assert next(reports).problem == problem
    assert same(before, state(model, optimizer))
    assert next(reports).problem == ""
    assert not same(before, state(model, optimizer))


def test_a_gradient_that_is_not_finite_is_a_bad_step_though_the_loss_is():
    model = tiny.make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.lm_head.weight.register_hook(lambda grad: grad / 0)
    before = state(model, optimizer)
    steps = data().steps(CONFIG, 0, Share())
    settings = StepSettings(lambda step: 0.1)
    report = next(train_steps(Accelerator(cpu=True), model, optimizer, steps, CAUSAL, OBJECTIVE.num_targets, settings))
    assert report.problem == "the gradient is not finite"
    assert same(before, state(model, optimizer))


def test_the_rows_of_the_micro_batch_are_named():
    rows, model = data(), tiny.make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    steps, settings = rows.steps(CONFIG, 3, Share()), StepSettings(lambda step: 0.1)
    reports = train_steps(
        Accelerator(cpu=True), model, optimizer, steps, not_finite_at(80), OBJECTIVE.num_targets, settings
    )
    named = []
    for _, report in zip(range(4), reports, strict=False):  # two epochs
        if report.problem:
            named.append(rows.sources(CONFIG, 3, 1, report.step, report.suspects))
    assert named == [["chats.json:2"], ["chats.json:2"]]


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2])
def test_micro_batches_are_numbered_as_they_are_cut(processes, size):
    rows = data(lengths=[65 + n for n in range(11)])
    config = DataConfig(packs_per_step=5, packs_per_micro_batch=size)
    for process in range(processes):
        steps = rows.steps(config, 1, Share(process, processes))
        for step in range(1, 7):
            for i, batch in enumerate(next(steps)):
                named = rows.sources(config, 1, processes, step, [i * processes + process])
                lengths = [64 + int(place.partition(":")[2]) for place in named]
                assert sum(lengths) == batch["input_ids"].shape[1] * bool(named)


def report(step, nats=(3.0, float("nan")), targets=5.0):
    return StepReport(step, 1e-3, lambda: 0.5, 0.0, Readback(torch.tensor([sum(nats), targets, 8.0, 1.0, 0.0, *nats])))


@pytest.fixture
def told():
    return []


def judge(told, **settings):
    def sources(step, micro):
        return [f"chats.json:{step}{n}" for n in micro for _ in range(9)]

    return BadSteps(BadStepConfig(**settings), sources, lambda *said: told.append(said), lambda: "step-00000002")


def test_skipping_says_which_rows(told):
    judge(told)(report(4))
    ((step, problem, rows, message),) = told
    assert (step, problem, rows) == (4, "the loss is not finite", ["chats.json:41"] * 9)
    assert message.count("chats.json:41") == 8
    assert "and 1 more; no weight was changed" in message


def test_stopping_raises(told):
    with pytest.raises(TrainingError, match=r"step 4: the loss is not finite; rows chats\.json:41"):
        judge(told, policy="stop")(report(4))


def test_rolling_back_goes_to_the_checkpoint_unless_nothing_was_learnt(told):
    judge(told, policy="roll_back")(report(4))
    assert told[-1][3] == "step 4: rolled back to step-00000002"
    told.clear()
    judge(told, policy="roll_back")(report(4, nats=(0.0,), targets=0.0))
    assert [said[1] for said in told] == ["no learnt token"]


def test_too_many_in_a_row_end_the_run_but_good_steps_between_do_not(told):
    watch = judge(told, most=3)
    for step, nats in enumerate([(float("nan"),)] * 2 + [(1.0,)] + [(float("inf"),)] * 2, 1):
        watch(report(step, nats))
    with pytest.raises(TrainingError, match="3 bad steps came one after another"):
        watch(report(6))


def test_a_limit_of_zero_is_refused():
    with pytest.raises(ConfigError, match=r"bad_steps\.most 0"):
        bad_steps.check(BadStepConfig(most=0))


def test_rows_longer_than_a_pack_stop_the_run_or_are_left_out_by_name():
    with pytest.raises(DataError, match=r"1 rows are longer .*chats\.json:2, has 129 tokens.*too_long skip"):
        data(lengths=(10, 129, 20))
    rows = data(lengths=(10, 129, 20), too_long="skip")
    assert rows.places(rows.left_out) == ["chats.json:2"]
    assert sorted(row for pack in rows.packs(0, 0) for row in pack) == [0, 2]
    with pytest.raises(DataError, match="2 rows are longer"):
        data(lengths=(200, 129), too_long="skip")


class Full(list):
    """Of a run whose last step was saved before memory lacked."""

    def append(self, what):
        if what.startswith("saved"):
            raise RunExists("already there")


class Greedy(torch.optim.SGD):
    """Lacks memory in its step number `at`."""

    at = taken = 0

    def step(self, closure=None):
        self.taken += 1
        if self.taken == self.at:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return super().step(closure)


def no_memory_in(step, saved, where="loss"):
    """A run of single-pack steps that finds no memory in `step`; what is read and saved goes to `saved`."""
    rows, model, done = data(), tiny.make_model(), []

    def loss(model, batch):
        if where == "loss" and len(done) == step - 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return CAUSAL(model, batch)

    config = DataConfig(packs_per_step=1)
    read = OneLate(lambda report: saved.append(f"read {report.step}"))
    sources = partial(rows.sources, config, 0, 1)
    arguments = loss, OBJECTIVE.num_targets, StepSettings(lambda step: 0.1)
    optimizer = Greedy(model.parameters(), lr=0.1)
    optimizer.at = step if where == "optimizer" else 0
    with rescued(read, lambda step: saved.append(f"saved {step}"), sources, 1):
        for report in train_steps(Accelerator(cpu=True), model, optimizer, rows.steps(config, 0, Share()), *arguments):
            done.append(report)
            read(report)
            if where == "body" and report.step == step:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")


def test_a_lack_of_memory_behind_a_step_saves_that_step():
    saved = []
    with pytest.raises(TrainingError, match=r"^step 2: out of memory in what followed it.*step 2 is saved; lower data"):
        no_memory_in(2, saved, "body")
    assert saved == ["read 1", "read 2", "saved 2"]


def test_a_lack_of_memory_in_the_optimiser_saves_no_weights_that_may_be_half_changed():
    saved = []
    with pytest.raises(TrainingError, match=r"^step 2: out of memory in the optimiser; nothing is saved.*optim\.name"):
        no_memory_in(2, saved, "optimizer")
    assert saved == []


def test_a_lack_of_memory_saves_and_names_rows_and_remedies():
    saved = []
    with pytest.raises(TrainingError) as error:
        no_memory_in(3, saved)
    assert saved == ["read 1", "read 2", "saved 2"]
    assert re.fullmatch(
        r"step 3: out of memory; rows chats\.json:[1-4]; step 2 is saved; lower data\.packs_per_micro_batch, .* and --resume",
        str(error.value),
    )
    with pytest.raises(TrainingError, match=r"step 2: out of memory; .*step 1 is saved"):
        no_memory_in(2, Full())
    with pytest.raises(TrainingError, match=r"step 1: out of memory; rows chats\.json:[1-4]; lower"):
        no_memory_in(1, [])


def test_a_bad_first_step_leaves_no_trace_in_any_optimisers_state():
    for name in ("sgd", "momentum", "adam", "adamw", "rmsprop", "adagrad"):
        model = tiny.make_model()
        optimizer = OPTIMIZERS[name]([{"params": list(model.parameters())}], Numbers(0.01))
        twin = copy.deepcopy(model)
        other = OPTIMIZERS[name]([{"params": list(twin.parameters())}], Numbers(0.01))
        good = [collate(data().columns, [1])]
        arguments = not_finite_at(90), OBJECTIVE.num_targets, StepSettings(lambda step: 0.01)
        bad = [collate(data().columns, [0])]
        for trained, made, steps in ((model, optimizer, [bad, good, good]), (twin, other, [good, good])):
            list(train_steps(Accelerator(cpu=True), trained, made, steps, *arguments))
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True)), name
