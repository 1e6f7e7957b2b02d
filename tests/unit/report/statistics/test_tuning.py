"""Tuning curves: against opda, and that the band covers the true curve."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from opda.nonparametric import EmpiricalDistribution

from peftlab.report.statistics.tuning import tuning_curve


@pytest.mark.parametrize("direction", ["max", "min"])
def test_as_opda_has_it(direction, cases):
    random = np.random.default_rng(0)
    for case in cases:
        scores = random.random(2 * int(random.integers(1, 20)) + 1)  # odd, so that no quantile is met exactly
        kind, level = ("ks", "dkw")[case % 2], random.uniform(0.5, 0.95)
        curve = tuning_curve(scores, level=level, direction=direction, bounds=(0, 1), kind=kind)
        lower, point, upper = EmpiricalDistribution.confidence_bands(scores, level, a=0.0, b=1.0, method=kind, n_jobs=1)
        ns, minimize = np.arange(1, len(scores) + 1), direction == "min"
        assert curve.budgets == tuple(ns)
        assert curve.point == pytest.approx(point.quantile_tuning_curve(ns, minimize=minimize), abs=1e-9)
        assert curve.low == pytest.approx(upper.quantile_tuning_curve(ns, minimize=minimize), abs=1e-9)
        assert curve.high == pytest.approx(lower.quantile_tuning_curve(ns, minimize=minimize), abs=1e-9)


def test_the_band_covers_the_whole_curve_as_often_as_it_says():
    random, ns = np.random.default_rng(1), np.arange(1, 13)
    truth = 0.5 ** (1 / ns)  # of uniform scores
    covers = []
    for _ in range(400):
        curve = tuning_curve(random.random(12), level=0.8, bounds=(0, 1))
        covers.append(all(low <= one <= high for low, one, high in zip(curve.low, truth, curve.high, strict=True)))
    assert np.mean(covers) >= 0.75


def test_without_bounds_there_is_no_limit_where_the_trials_say_none():
    curve = tuning_curve([0.3, 0.1, 0.2], budgets=[1, 50])
    assert curve.point == (0.2, 0.3)
    assert curve.high[1] is None
    json.dumps(asdict(curve), allow_nan=False)


@pytest.mark.parametrize(
    ("scores", "budgets", "message"),
    [([], None, "no trial"), ([0.5], [0], "at least 1"), ([1.5], None, "outside of")],
)
def test_what_makes_no_curve(scores, budgets, message):
    with pytest.raises(ValueError, match=message):
        tuning_curve(scores, budgets, bounds=(0, 1))
