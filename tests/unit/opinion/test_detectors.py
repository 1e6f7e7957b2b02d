"""Detectors against published run lengths."""

from __future__ import annotations

import numpy as np
import pytest

from peftlab.errors import ConfigError
from peftlab.opinion import detectors
from peftlab.validation import checked


def run_length(detector, limit, shift, streams=1200, longest=2500):
    """Return the mean number of windows until a statistic is above a limit."""
    random = np.random.default_rng(1)
    state = np.zeros((detector.numbers, streams))
    if detector.numbers == 2 and hasattr(detector, "weight"):
        state[1] = longest  # published lengths are for the limits after many windows
    ended = np.full(streams, longest)
    for window in range(1, longest + 1):
        state = detector.step(state, random.standard_normal(streams) + shift, np.full(streams, 0.5))
        ended = np.where((ended == longest) & (detector.statistics(state).max(0) > limit), window, ended)
        if (ended < longest).all():
            break
    return ended.mean()


@pytest.mark.parametrize(
    ("kind", "options", "limit", "shift", "published"),
    [
        ("cusum", {}, 4.0, 0.0, 168.0),  # Montgomery, Introduction to Statistical Quality Control: k = 0.5
        ("cusum", {}, 4.0, 1.0, 8.38),
        ("cusum", {}, 4.0, 2.0, 3.34),
        ("cusum", {"k": 0.5}, 5.0, 1.0, 10.4),
        ("ewma", {"weight": 0.1}, 2.814, 1.0, 10.3),  # Lucas & Saccucci 1990, table 3
        ("shewhart", {}, 2.0, 0.0, 21.98),  # 1 / 0.0455
        ("shewhart", {}, 3.0, 2.0, 6.30),
    ],
)
def test_published_run_lengths(kind, options, limit, shift, published):
    detector = detectors.chosen(kind)(**options)
    assert run_length(detector, limit, shift) == pytest.approx(published, rel=0.08)


def test_the_average_is_over_its_exact_deviation():
    detector = detectors.chosen("ewma")(weight=0.2)
    random = np.random.default_rng(0)
    state = np.zeros((2, 20_000))
    for window in range(1, 4):
        state = detector.step(state, random.standard_normal(20_000), np.zeros(1))
        rise, fall = detector.statistics(state)
        assert (rise - fall).std() == pytest.approx(1, abs=0.02), window


@pytest.mark.parametrize("kind", detectors.kinds())
def test_each_direction_is_its_own(kind):
    detector = detectors.chosen(kind)()
    state = np.zeros((detector.numbers, 2))
    for _ in range(3):
        state = detector.step(state, np.array([2.0, -2.0]), np.full(2, 0.5))
    rise, fall = detector.statistics(state)
    assert rise[0] == fall[1] > 0
    assert rise[1] == fall[0] == 0
    with pytest.raises(ConfigError, match="there is no key"):
        checked(type(detector), {"h": 4}, kind)
