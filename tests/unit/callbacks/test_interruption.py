from __future__ import annotations

import os
import signal
from types import SimpleNamespace

import pytest

from peftlab.callbacks.interruption import Interruption
from peftlab.exits import Interrupted, Signals


@pytest.fixture
def signals():
    with Signals() as signals:
        yield signals


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_a_step_ends_the_run_after_it(signals, number, exit_code):
    callback = Interruption(signals)
    callback.on_train_start(None, None)
    os.kill(os.getpid(), number)  # nothing happens within the step
    with pytest.raises(Interrupted) as interrupted:
        callback.on_train_batch_end()
    assert interrupted.value.exit_code == exit_code


def test_without_a_signal_a_step_just_ends(signals):
    callback = Interruption(signals)
    callback.on_train_start(None, None)
    callback.on_train_batch_end()
    callback.on_validation_batch_end()
    callback.on_train_end(SimpleNamespace(world_size=1), None)


def test_a_signal_in_a_validation_ends_the_run_after_its_batch(signals):
    callback = Interruption(signals)
    callback.on_train_start(None, None)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted):
        callback.on_validation_batch_end()


@pytest.mark.parametrize("end", ["on_train_end", "on_exception"])
def test_outside_of_training_a_signal_is_not_held_back(signals, end):
    callback = Interruption(signals)
    callback.on_train_start(None, None)
    callback.on_train_end(SimpleNamespace(world_size=1), None) if end == "on_train_end" else callback.on_exception(
        None, None, ValueError()
    )
    with pytest.raises(Interrupted):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_after_the_last_batch_is_not_forgotten(signals):
    callback = Interruption(signals)
    callback.on_train_start(None, None)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted):
        callback.on_train_end(SimpleNamespace(world_size=1), None)


def test_with_other_ranks_a_signal_waits_for_them_in_an_evaluation_too(signals):
    callback = Interruption(signals)
    callback.on_train_start(None, None)
    callback.on_train_end(SimpleNamespace(world_size=2), None)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted):
        callback.on_test_batch_end()


def test_a_handler_that_another_library_has_put_before_ours_is_replaced(signals):
    signal.signal(signal.SIGTERM, lambda *_: pytest.fail("it would tell the other ranks in the middle of a step"))
    callback = Interruption(signals)
    callback.on_train_start(None, None)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted):
        callback.on_train_batch_end()
