"""Bands of a distribution function: against opda, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from opda import utils
from opda.nonparametric import EmpiricalDistribution

from peftlab.report.statistics.bands import beta_intervals, cdf_band, coverage


@pytest.mark.parametrize("kind", ["highest_density", "equal_tailed"])
def test_intervals_as_opda_has_them(kind):
    theirs = getattr(utils, f"beta_{kind}_interval")
    for number in (2, 3, 7, 40):
        first = np.arange(1, number + 1)
        for level in (0.5, 0.9, 0.999):
            expected = theirs(first, number + 1 - first, level)
            assert np.array(beta_intervals(number, level, kind)) == pytest.approx(np.array(expected), abs=1e-9)


@pytest.mark.parametrize("kind", ["highest_density", "equal_tailed", "ks", "dkw"])
def test_they_hold_as_often_as_they_say(kind):
    random = np.random.default_rng(0)
    for number in (1, 2, 9, 30):
        low, high = cdf_band(number, 0.9, kind)
        values = np.sort(random.random((20_000, number)), axis=1)
        # just before a value the function is as high as at it, and the band as it was
        inside = ((low[1:] <= values) & (values <= high[:-1])).all(axis=1).mean()
        if kind == "dkw":
            assert inside >= 0.89
        else:
            assert inside == pytest.approx(0.9, abs=0.01)
        assert coverage(low[1:], high[:-1]) == pytest.approx(inside, abs=0.01)


@pytest.mark.parametrize(
    ("kind", "method", "tolerance"),
    [
        ("ks", "ks", 1e-9),
        ("dkw", "dkw", 1e-9),
        # opda simulates the level of the intervals, to about a twentieth of what is left to 1; ours is exact
        pytest.param("highest_density", "ld_highest_density", 0.004, marks=pytest.mark.slow),
        pytest.param("equal_tailed", "ld_equal_tailed", 0.004, marks=pytest.mark.exhaustive),
    ],
)
def test_bands_as_opda_has_them(kind, method, tolerance):
    values = np.arange(20.0)
    lower, _, upper = EmpiricalDistribution.confidence_bands(
        values, 0.9, method=method, n_jobs=1, generator=np.random.default_rng(0)
    )
    low, high = cdf_band(20, 0.9, kind)
    assert low[1:] == pytest.approx(lower.cdf(values), abs=tolerance)
    assert high == pytest.approx(upper.cdf(np.arange(-1.0, 20)), abs=tolerance)


def test_impossible_limits_are_never_met_and_nobody_changes_what_is_kept():
    assert coverage(np.array([0.6, 0.7]), np.array([0.5, 0.9])) == 0
    with pytest.raises(ValueError, match="read-only"):
        cdf_band(5)[0][0] = 1
    with pytest.raises(ValueError, match="no value"):
        cdf_band(0)
