"""Means and their intervals: against scipy, the table of t, and each other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from peftlab.report.statistics.means import bca_mean, mean


@pytest.mark.parametrize(
    ("values", "critical"), [([0.1, 0.3], 12.706), ([0.1, 0.2, 0.6], 4.303), ([0.4, 0.5, 0.5, 0.6, 0.9], 2.776)]
)
def test_by_the_table_of_t(values, critical):
    about = mean(values)
    half = critical * np.std(values, ddof=1) / len(values) ** 0.5
    assert (about.low, about.high) == pytest.approx((np.mean(values) - half, np.mean(values) + half), abs=1e-4)


def test_as_scipy_has_it(cases):
    random = np.random.default_rng(0)
    for _ in cases:
        values = random.normal(random.normal(), random.exponential(), random.integers(2, 30))
        level = random.uniform(0.5, 0.999)
        about = mean(values, level)
        expected = stats.t.interval(level, len(values) - 1, values.mean(), stats.sem(values))
        assert (about.low, about.high) == pytest.approx(expected, rel=1e-9, abs=1e-9)
        assert (about.value, about.sd) == pytest.approx((values.mean(), values.std(ddof=1)), rel=1e-9)


def test_one_value_has_no_interval_and_none_no_mean():
    for function in (mean, bca_mean):
        about = function([0.5])
        assert (about.value, about.sd, about.low, about.high) == (0.5, None, None, None)
        with pytest.raises(ValueError, match="no value"):
            function([])


def test_bca_as_scipy_has_it_on_the_same_draws(cases):
    random = np.random.default_rng(1)
    for seed in cases:
        # few values are drawn in another order often enough that rounding decides what is a tie
        values = random.exponential(size=random.integers(15, 40))
        about = bca_mean(values, resamples=199, seed=seed)
        expected = stats.bootstrap(
            (values,), np.mean, n_resamples=199, method="BCa", rng=np.random.default_rng(seed)
        ).confidence_interval
        assert (about.low, about.high) == pytest.approx(tuple(expected), rel=1e-9)


def test_bca_of_equal_values_has_no_width():
    about = bca_mean([0.25] * 4)
    assert (about.low, about.high) == (0.25, 0.25)
