"""Processes of a sweep: when a trial is asked to end."""

from __future__ import annotations

import multiprocessing
import signal
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from peftlab.composing.compose import compose
from peftlab.sweep import processes
from peftlab.sweep.processes import TrialProcess, fork_server, wait_for
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
