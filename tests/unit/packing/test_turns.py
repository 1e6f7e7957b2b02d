"""Threads that take turns."""

from __future__ import annotations

import logging
import os
import random

import numpy as np
import torch

from peftlab.packing.run_context import RunContext
from peftlab.packing.turns import Turns
from peftlab.terminal.console import log


def test_a_turn_goes_up_to_a_question():
    done = []

    def work(turns):
        done.append(turns.ask("first"))
        done.append(turns.ask("second"))
        return "result"

    turns = Turns(work, RunContext())
    turns.take()
    assert (turns.asked, done) == ("first", [])
    turns.take(1)
    assert (turns.asked, done) == ("second", [1])
    turns.take(2)
    assert turns.over
    assert (turns.result, turns.asked, done) == ("result", None, [1, 2])


def test_an_error_ends_it():
    error = KeyboardInterrupt()

    def work(turns):
        raise error

    turns = Turns(work, RunContext())
    turns.take()
    assert turns.over
    assert turns.error is error


def drawn():
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_each_has_its_own_random_numbers_handlers_and_seed(monkeypatch):
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)

    def work(seed):
        def draw(turns):
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            os.environ["PL_GLOBAL_SEED"] = str(seed)
            log.addHandler(logging.NullHandler(seed))
            numbers = []
            for _ in range(3):
                numbers += drawn()
                turns.ask(None)
                assert os.environ["PL_GLOBAL_SEED"] == str(seed)
                assert [handler.level for handler in log.handlers[-1:]] == [seed]
            return numbers

        return draw

    before, handlers = [random.getstate(), np.random.get_bit_generator(), torch.get_rng_state()], [*log.handlers]
    both = [Turns(work(seed), RunContext()) for seed in (1, 2)]
    while not all(turns.over for turns in both):
        for turns in both:
            turns.take(True)
    after = [random.getstate(), np.random.get_bit_generator(), torch.get_rng_state()]
    assert (after[:2], after[2].tolist(), log.handlers) == (before[:2], before[2].tolist(), handlers)
    assert "PL_GLOBAL_SEED" not in os.environ
    for turns, seed in zip(both, (1, 2), strict=True):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        assert turns.error is None
        assert turns.result == [number for _ in range(3) for number in drawn()]


def test_each_prints_where_its_descriptor_leads(tmp_path, capfd):
    descriptors = [os.open(tmp_path / name, os.O_WRONLY | os.O_CREAT) for name in ("a", "b")]

    def work(turns):
        os.write(1, b"one ")
        turns.ask(None)
        os.write(2, b"two")

    both = [Turns(work, RunContext(descriptor)) for descriptor in descriptors]
    for _ in range(2):
        for turns in both:
            turns.take(True)
    os.write(1, b"mine")
    assert [(tmp_path / name).read_text() for name in ("a", "b")] == ["one two"] * 2
    assert capfd.readouterr().out == "mine"
