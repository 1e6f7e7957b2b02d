"""The learning curve as text."""

from __future__ import annotations

import logging

import pytest

from peftlab.callbacks.curve import Curve, drawn


def test_a_line_for_each_validation(train, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("peftlab"), "propagate", True)
    caplog.set_level(logging.INFO, logger="peftlab")
    callback = Curve("validation/score")
    train(callback, 4, 4, epochs=2)
    (text,) = {record.getMessage() for record in caplog.records if "by step" in record.getMessage()}
    assert [line.split()[:2] for line in text.splitlines()[1:]] == [["2", "0.5000"], ["4", "0.5000"]]
    again = Curve("validation/score")
    again.load_state_dict(callback.state_dict())
    assert again.points == callback.points


def test_a_score_that_is_not_logged_is_named(train):
    with pytest.raises(ValueError, match="'validation/none' is not logged; logged are validation/score"):
        train(Curve("validation/none"), 4, epochs=1)


def test_bars_reach_from_the_least_to_the_greatest():
    lines = drawn("f1", [(1, 0.0), (10, 0.5), (1000, 1.0), (1001, float("nan"))]).splitlines()
    assert [line.count("█") for line in lines[1:]] == [1, 20, 40, 0]
    assert lines[1].startswith("    1  0.0000")
    many = drawn("f1", [(step, step / 100) for step in range(1, 101)]).splitlines()
    assert len(many) == 31
    assert many[-1].split()[0] == "100"
