"""Processes of a sweep: when a trial is asked to end."""

from __future__ import annotations

import multiprocessing
import signal
from types import SimpleNamespace

import pytest

from peftlab.sweep import processes
from peftlab.sweep.processes import TrialProcess
from peftlab.sweep.worker import BEGAN


@pytest.fixture
def sent(monkeypatch):
    """The signals that were sent."""
    numbers = []
    monkeypatch.setattr(processes.os, "kill", lambda pid, number: numbers.append(number))
    return numbers


@pytest.fixture
def started():
    """A trial that has just been started, and its own end of the connection."""
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        yield TrialProcess(SimpleNamespace(pid=1, exitcode=None), ours), theirs


def test_a_trial_is_asked_to_end_when_it_listens(started, sent):
    trial, theirs = started
    trial.ask_to_end()
    assert trial.asked_to_end
    assert trial.messages() == []
    assert sent == []
    theirs.send(BEGAN)
    theirs.send(("stepped", 1, 2))
    assert trial.messages() == [("stepped", 1, 2)]
    assert sent == [signal.SIGINT]
    trial.ask_to_end()
    assert sent == [signal.SIGINT] * 2


def test_a_trial_that_listens_is_asked_at_once(started, sent):
    trial, theirs = started
    theirs.send(BEGAN)
    assert trial.messages() == []
    assert sent == []
    trial.ask_to_end()
    assert sent == [signal.SIGINT]


def test_a_trial_that_is_asked_twice_before_it_listens_is_ended(started, sent):
    trial, _ = started
    trial.ask_to_end()
    trial.ask_to_end()
    assert sent == [signal.SIGKILL]
