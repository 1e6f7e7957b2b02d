"""Signals that ask a run to end."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from peftlab.terminal.signals import Interrupted, Signals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 143)])
class TestSignals:
    def test_a_signal_interrupts_at_once(self, number, code):
        before = signal.getsignal(number)
        with pytest.raises(Interrupted) as error, Signals():
            os.kill(os.getpid(), number)
        assert error.value.exit_code == code
        assert signal.getsignal(number) == before

    def test_a_signal_can_be_held_back(self, number, code):
        with Signals() as signals:
            signals.hold = True
            signals.raise_pending()  # nothing has come yet
            os.kill(os.getpid(), number)
            with pytest.raises(Interrupted) as error:
                signals.raise_pending()
        assert error.value.exit_code == code

    def test_a_second_signal_is_not_held_back(self, number, code):
        with Signals() as signals:
            signals.hold = True
            os.kill(os.getpid(), number)
            assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_is_held_back_in_every_thread():
    pending, entered, received = [], threading.Event(), threading.Event()

    def work():
        with Signals() as signals:
            entered.set()
            received.wait(10)
            pending.append(signals.pending)

    thread = threading.Thread(target=work)
    with Signals() as signals:
        signals.hold = True
        thread.start()
        entered.wait(10)
        os.kill(os.getpid(), signal.SIGTERM)
        received.set()
        thread.join()
    assert pending == [signal.SIGTERM]
    assert Signals.in_threads == []


def test_a_thread_that_begins_after_a_signal_was_held_back_knows_of_it():
    pending = []

    def work():
        with Signals() as signals:
            pending.append(signals.pending)

    thread = threading.Thread(target=work)
    with Signals() as signals:
        signals.hold = True
        os.kill(os.getpid(), signal.SIGINT)
        thread.start()
        thread.join()
    assert pending == [signal.SIGINT]
    assert Signals.around is None
