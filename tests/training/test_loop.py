"""Reports of steps: nothing waits for them, and none is lost."""

import time

import pyarrow as pa
import tiny
import torch
from accelerate import Accelerator

from nlpft.data.collate import Columns, collate
from nlpft.objectives import causal_lm
from nlpft.training.loop import OneLate, Readback, StepReport, StepSettings, to_device, train_steps


def report(step):
    return StepReport(
        step, 1e-3, lambda: 0.5, 0.0, Readback(torch.tensor([6.0 * step, 3.0, 8.0, 1.5, 0.0, 6.0 * step]))
    )


def test_a_report_divides_once():
    assert report(2).numbers() == {
        "step": 2, "loss": 4.0, "targets": 3, "tokens": 8, "grad_norm": 1.5, "lr": 1e-3, "seconds": 0.5, "memory_gib": 0.0,
    }  # fmt: skip


def test_reports_are_written_one_late_and_in_order():
    written = []
    late = OneLate(lambda report: written.append(report.step))
    late(report(1))
    assert written == []
    late(report(2))
    assert written == [1]
    late(report(3), now=True)
    assert written == [1, 2, 3]
    late(report(4))
    late(report(5))
    assert written == [1, 2, 3, 4]


def test_single_numbers_stay_on_the_host():
    batch = {"input_ids": torch.zeros(1, 3), "max_seqlen": torch.tensor(3)}
    moved = to_device(batch, torch.device("meta"))
    assert moved["input_ids"].is_meta
    assert int(moved["max_seqlen"]) == 3


def test_padding_is_no_token_and_what_a_recipe_does_takes_no_time_of_a_step():
    model = tiny.make_model()
    rows = pa.table({"input_ids": [[1, 2, 3, 4], [5, 6, 7]], "labels": [[1, 2, 3, 4], [5, 6, 7]]})
    batch = collate(Columns(rows), [0, 1], pad_to=64)
    arguments = causal_lm.build(causal_lm.Config(), model), causal_lm.num_targets, StepSettings(lambda step: 0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    reports = []
    for made in train_steps(Accelerator(cpu=True), model, optimizer, [[batch]] * 3, *arguments):
        reports.append(made)
        time.sleep(0.5)
    assert [r.tokens for r in reports] == [7, 7, 7]
    assert 0 < reports[1].seconds < 0.5
