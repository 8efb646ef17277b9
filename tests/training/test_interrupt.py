"""Signals: the first is remembered, a second Ctrl-C means it."""

import os
import signal

import pytest

from nlpft.training import interrupt
from nlpft.training.interrupt import Interrupts


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_remembered_and_nothing_else(number):
    before = signal.getsignal(number)
    with Interrupts() as signals:
        assert not signals.received()
        send(number)
        assert signals.received()
        assert signals.code == 128 + number
    assert signal.getsignal(number) == before


def test_a_launchers_repetition_of_ctrl_c_is_the_same_one(monkeypatch):
    with Interrupts() as signals:
        send(signal.SIGINT)
        send(signal.SIGINT)
        send(signal.SIGTERM)
        assert signals.code == 130
        monkeypatch.setattr(interrupt, "AT_ONCE", 0.0)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
