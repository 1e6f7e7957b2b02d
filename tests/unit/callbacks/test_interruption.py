from __future__ import annotations

import os
import signal
from types import SimpleNamespace

import pytest

from peftlab.callbacks.interruption import Interruption
from peftlab.exits import Interrupted, Signals

TRAINER = SimpleNamespace(world_size=1, accumulate_grad_batches=2, state=SimpleNamespace(fn="fit"))


@pytest.fixture
def signals():
    with Signals() as signals:
        yield signals


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_a_signal_in_a_step_ends_the_run_after_it(signals, number, exit_code):
    saved = []
    callback = Interruption(signals, saved.append)
    callback.on_train_start(TRAINER, None)
    os.kill(os.getpid(), number)
    callback.on_train_batch_start(TRAINER, None, None, 3)  # the second half of a step
    assert saved == []
    with pytest.raises(Interrupted) as interrupted:
        callback.on_train_batch_start(TRAINER, None, None, 4)
    assert interrupted.value.exit_code == exit_code
    assert saved == [TRAINER]


def test_without_a_signal_a_step_just_ends(signals):
    callback = Interruption(signals)
    callback.on_train_start(TRAINER, None)
    callback.on_train_batch_start(TRAINER, None, None, 0)
    callback.on_validation_batch_end(TRAINER)
    callback.on_train_end(TRAINER, None)


@pytest.mark.parametrize(("doing", "saves"), [("fit", 1), ("validate", 0)])
def test_a_signal_in_a_validation_ends_the_run_after_its_batch(signals, doing, saves):
    """What has been trained is saved; where the training is over, it has been."""
    saved = []
    callback = Interruption(signals, saved.append)
    callback.on_train_start(TRAINER, None)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted):
        callback.on_validation_batch_end(SimpleNamespace(state=SimpleNamespace(fn=doing)))
    assert len(saved) == saves


@pytest.mark.parametrize("end", ["on_train_end", "on_exception"])
def test_outside_of_training_a_signal_is_not_held_back(signals, end):
    callback = Interruption(signals)
    callback.on_train_start(TRAINER, None)
    callback.on_train_end(TRAINER, None) if end == "on_train_end" else callback.on_exception(None, None, ValueError())
    with pytest.raises(Interrupted):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_after_the_last_batch_is_not_forgotten(signals):
    callback = Interruption(signals)
    callback.on_train_start(TRAINER, None)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted):
        callback.on_train_end(TRAINER, None)


def test_with_other_ranks_a_signal_waits_for_them_in_an_evaluation_too(signals):
    callback = Interruption(signals)
    callback.on_train_start(TRAINER, None)
    callback.on_train_end(SimpleNamespace(world_size=2, state=TRAINER.state), None)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted):
        callback.on_test_batch_end(TRAINER)


def test_a_handler_that_another_library_has_put_before_ours_is_replaced(signals):
    signal.signal(signal.SIGTERM, lambda *_: pytest.fail("it would tell the other ranks in the middle of a step"))
    callback = Interruption(signals)
    callback.on_train_start(TRAINER, None)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted):
        callback.on_train_batch_start(TRAINER, None, None, 0)
