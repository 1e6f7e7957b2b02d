"""Telling how far a run has come."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from peftlab.tasks.task import Selection
from peftlab.terminal.signals import Signals
from peftlab.training import reporting
from peftlab.training.interruption import Interruption
from peftlab.training.reporting import Reporting


class Watching:
    def __init__(self, goes_on=True):
        self.goes_on, self.told = goes_on, []

    def stepped(self, *what):
        self.told.append(what)

    def validated(self, *what):
        self.told.append(what)
        return self.goes_on


def trainer(step, fn="fit", first=True):
    return SimpleNamespace(
        global_step=step,
        estimated_stepping_batches=10,
        is_global_zero=first,
        state=SimpleNamespace(fn=fn),
        callback_metrics={"validation/f1": 0.5},
    )


def reporting_to(watcher):
    interruption = Interruption(Signals(), lambda trainer: None)
    return Reporting(watcher, Selection(metric="f1", mode="max"), interruption), interruption


def test_steps_are_told_once_in_a_while(monkeypatch):
    now = iter([100.0, 100.5, 101.5])
    monkeypatch.setattr(reporting, "time", SimpleNamespace(monotonic=lambda: next(now)))
    watcher = Watching()
    callback, _ = reporting_to(watcher)
    for step in (1, 2, 3):
        callback.on_train_batch_end(trainer(step))
    assert watcher.told == [(1, 10), (3, 10)]


@pytest.mark.parametrize(("goes_on", "step", "pruned"), [(True, 5, False), (False, 5, True), (False, 10, False)])
def test_the_watcher_decides_after_a_validation_unless_all_is_done(goes_on, step, pruned):
    watcher = Watching(goes_on)
    callback, interruption = reporting_to(watcher)
    callback.on_validation_end(trainer(step), None)
    assert watcher.told == [(step, 10, 0.5)]
    assert interruption.pruned is pruned


@pytest.mark.parametrize("quiet", [trainer(5, fn="validate"), trainer(5, first=False)])
def test_other_validations_and_other_ranks_tell_nothing(quiet):
    watcher = Watching(goes_on=False)
    callback, interruption = reporting_to(watcher)
    callback.on_validation_end(quiet, None)
    callback.on_train_batch_end(trainer(5, first=False))
    assert watcher.told == []
    assert not interruption.pruned
