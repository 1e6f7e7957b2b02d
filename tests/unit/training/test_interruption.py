from __future__ import annotations

import os
import signal
from types import SimpleNamespace

import pytest

from peftlab.terminal.signals import Interrupted, Pruned, Signals
from peftlab.training.interruption import Interruption

TRAINER = SimpleNamespace(world_size=1, accumulate_grad_batches=2, state=SimpleNamespace(fn="fit"))


@pytest.fixture
def signals():
    with Signals() as signals:
        signals.hold = True
        yield signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_in_a_step_ends_the_run_after_it(signals, number):
    saved = []
    callback = Interruption(signals, saved.append)
    os.kill(os.getpid(), number)
    with pytest.raises(Interrupted, match=signal.Signals(number).name):
        callback.on_train_batch_start(TRAINER, None, None, 4)
    assert saved == [TRAINER]


def test_without_a_signal_all_goes_on(signals):
    callback = Interruption(signals, pytest.fail)
    callback.on_train_batch_start(TRAINER, None, None, 0)
    callback.on_validation_batch_end(TRAINER)
    callback.on_train_end(TRAINER, None)


@pytest.mark.parametrize(("doing", "saves"), [("fit", 1), ("validate", 0)])
def test_a_signal_in_a_validation_ends_the_run_after_its_batch(signals, doing, saves):
    """What has been trained is saved; where the training is over, it has been."""
    saved = []
    callback = Interruption(signals, saved.append)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted):
        callback.on_validation_batch_end(SimpleNamespace(state=SimpleNamespace(fn=doing)))
    assert len(saved) == saves


@pytest.mark.parametrize("hook", ["on_train_end", "on_validation_start", "on_test_start", "on_test_batch_end"])
def test_a_signal_between_two_batches_is_not_forgotten(signals, hook):
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted):
        getattr(Interruption(signals, lambda _: None), hook)(TRAINER, None)


def test_a_run_that_is_pruned_ends_at_its_next_step_with_a_checkpoint(signals):
    saved = []
    callback = Interruption(signals, saved.append)
    callback.pruned = True
    with pytest.raises(Pruned):
        callback.on_train_batch_start(TRAINER, None, None, 4)
    assert saved == [TRAINER]


def test_a_signal_comes_before_pruning(signals):
    callback = Interruption(signals, lambda trainer: None)
    callback.pruned = True
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted):
        callback.on_train_batch_start(TRAINER, None, None, 0)
