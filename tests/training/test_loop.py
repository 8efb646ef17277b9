"""Reports of steps: nothing waits for them, and none is lost."""

import torch

from nlpft.training.loop import OneLate, Readback, StepReport, to_device


def report(step):
    return StepReport(step, 1e-3, 0.5, 0.0, Readback(torch.tensor([6.0 * step, 3.0, 8.0, 1.5, 0.0, 6.0 * step])))


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
