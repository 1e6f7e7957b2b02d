"""Processes of a sweep: when a trial is asked to end."""

from __future__ import annotations

import multiprocessing
import signal
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from peftlab.composing.compose import compose
from peftlab.devices.fork_server import fork_server
from peftlab.sweep import processes
from peftlab.sweep.pack_worker import ENDED
from peftlab.sweep.processes import PackedTrial, TrialProcess, wait_for
from peftlab.sweep.worker import BEGAN, Order


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


@pytest.fixture
def packed(monkeypatch):
    """Two trials of one process, the process, and their own ends of their connections."""
    process, pipes = SimpleNamespace(pid=1, exitcode=None, start=lambda: None), [multiprocessing.Pipe() for _ in "ab"]
    ours = iter([(one, SimpleNamespace(close=lambda: None)) for one, _ in pipes])
    context = SimpleNamespace(Pipe=lambda: next(ours), Process=lambda **options: process)
    monkeypatch.setattr(processes.os, "killpg", lambda pid, number: None)
    yield PackedTrial.start_together(context, [None, None]), process, [theirs for _, theirs in pipes]
    for pipe in pipes:
        for end in pipe:
            end.close()


def test_trials_of_a_process_end_one_by_one_and_the_last_with_it(packed, sent):
    (one, other), process, (ones, others) = packed
    others.send(("stepped", 1, 2))
    assert not one.ended()
    assert not other.ended()
    assert other.messages() == [("stepped", 1, 2)]
    ones.send((ENDED, 4))
    assert one.ended()
    assert one.how == "pruned"
    others.send(("stepped", 2, 2))
    others.send((ENDED, 0))
    assert not other.ended()  # the process still has to end
    process.exitcode = 0
    assert other.ended()
    assert other.exitcode == 0


def test_trials_of_a_process_that_dies_have_ended_as_it_has(packed, sent):
    (one, other), process, (ones, _) = packed
    ones.send((ENDED, 0))
    process.exitcode = -signal.SIGSEGV
    assert one.ended()
    assert other.ended()
    assert (one.exitcode, other.how) == (0, "ended by SIGSEGV")


def test_trials_of_a_process_are_asked_to_end_with_one_signal(packed, sent):
    (one, other), _, (ones, others) = packed
    ones.send(BEGAN)
    assert one.messages() == []
    one.ask_to_end()
    other.ask_to_end()
    others.send(BEGAN)  # it begins after the process has had the signal
    assert other.messages() == []
    assert sent == [signal.SIGINT]
    one.ask_to_end()
    other.ask_to_end()
    assert sent == [signal.SIGINT] * 2


@pytest.mark.slow
def test_a_trial_that_is_asked_before_its_process_does_anything_is_interrupted(tiny_overrides, tmp_path):
    config = compose(*tiny_overrides, f"run_dir={tmp_path}/run", "budget.max_steps=2000", "logger=[]", "callbacks=[]")
    order = Order(OmegaConf.to_container(config, resolve=True), [], [], {}, tmp_path / "output.txt")
    trial = TrialProcess.start(fork_server(), order)
    trial.ask_to_end()
    while not trial.ended():
        trial.keep_going()
        wait_for([trial], 1.0)
    assert trial.process.exitcode == 130, (tmp_path / "output.txt").read_text()
