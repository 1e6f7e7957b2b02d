"""Which series alert, and that no more do than are allowed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from peftlab.opinion import detectors
from peftlab.opinion.monitor import Monitor, Tails, rejected

CUSUM = detectors.chosen("cusum")()


def test_benjamini_and_hochberg_as_scipy_has_them():
    random = np.random.default_rng(0)
    p = random.uniform(size=(300, 12)) ** random.choice([1, 3, 6], size=(300, 1))
    for level in (0.01, 0.1, 0.3):
        assert (rejected(p, level) == (false_discovery_control(p, axis=1) <= level)).all()
    p[:, 8:] = np.nan
    assert (rejected(p, 0.1)[:, :8] == (false_discovery_control(p[:, :8], axis=1) <= 0.1)).all()
    assert not rejected(p, 0.1)[:, 8:].any()


def test_the_p_value_is_the_share_of_statistics_at_least_as_large():
    statistics = np.random.default_rng(0).exponential(size=(20_000, 2)) * [1, 3]
    tails = Tails.of(statistics)
    for value in (0.5, 2.0, 5.0):
        assert tails.p(np.array([value, value])) == pytest.approx(np.exp([-value, -value / 3]), rel=0.15)
    assert tails.p(np.array([1e9, 1e9])) == pytest.approx(1 / 20_001)
    assert tails.p(np.zeros(2)) == pytest.approx(1.0)


def followed(z, close_after=2, level=0.05):
    statistics = np.abs(np.random.default_rng(0).standard_normal((5000, 1))) * 2
    monitor = Monitor(CUSUM, Tails.of(statistics), level, close_after, (1,))
    return monitor, [monitor.step(np.array([value]), np.array([0.5])) for value in z]


def test_an_alert_opens_once_and_closes_after_quiet_windows():
    monitor, steps = followed([0, 0, 3, 3, 3, 3, 0, 3, 0, 0, 0, -4, -4])
    assert [n for n, step in enumerate(steps) if step.opened[0]] == [3, 12]
    assert [n for n, step in enumerate(steps) if step.closed[0]] == [9]
    assert monitor.open.tolist() == [-1]
    assert monitor.since[1].tolist() == [11]


def test_a_window_with_too_few_texts_changes_nothing():
    _, steps = followed([0, 3, np.nan, np.nan, 3, 0, np.nan, 0])
    assert [n for n, step in enumerate(steps) if step.opened[0]] == [4]
    assert [n for n, step in enumerate(steps) if step.closed[0]] == [7]
    assert np.isnan(steps[2].p[0])


def test_it_goes_on_from_json_as_if_nothing_had_been():
    z = np.random.default_rng(3).standard_normal(40) + np.repeat([0, 2], 20)
    whole, steps = followed(z)
    first, _ = followed(z[:25])
    again, _ = followed([])
    again.go_on(first.as_json())
    for n, value in enumerate(z[25:], start=25):
        step = again.step(np.array([value]), np.array([0.5]))
        assert (step.opened, step.p) == (steps[n].opened, steps[n].p)
    assert again.as_json() == whole.as_json()
