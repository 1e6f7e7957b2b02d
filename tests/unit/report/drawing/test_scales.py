from __future__ import annotations

import itertools

import pytest
from matplotlib.figure import Figure

from peftlab.report.drawing.quantities import Axis, Interval
from peftlab.report.drawing.scales import MOST_TICKS, LinearTicks, LogarithmicTicks, fit, measure


@pytest.mark.parametrize(
    ("unit", "low", "high", "inside"),
    [
        ("seconds", 0, 7200, {0, 1800, 3600, 5400}),
        ("bytes", 0, 4 * 2**30, {2**30, 2**31}),
        ("percent", 0.8, 0.9, {0.8, 0.9}),
        ("count", 0, 3, {0, 1, 2, 3}),
    ],
)
def test_linear_ticks_stand_at_round_multiples_of_the_unit(unit, low, high, inside):
    places = LinearTicks(unit, MOST_TICKS).tick_values(low, high)
    assert inside <= {round(place, 9) for place in places}


@pytest.mark.parametrize(
    ("unit", "low", "high", "places"),
    [
        ("plain", 1e-5, 1e-3, [1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3]),
        ("count", 5e3, 2e8, [1e4, 1e5, 1e6, 1e7, 1e8]),
        ("seconds", 30, 8000, [60, 120, 300, 600, 1200, 3600, 7200]),
        ("bytes", 2**30, 16 * 2**30, [2**30, 2 * 2**30, 5 * 2**30, 10 * 2**30]),
    ],
)
def test_logarithmic_ticks_stand_at_round_multiples_of_each_unit(unit, low, high, places):
    assert LogarithmicTicks(unit).tick_values(low, high) == pytest.approx(places)


def test_logarithmic_ticks_never_crowd_nor_repeat():
    for unit in ("plain", "seconds", "bytes", "count", "flops"):
        places = LogarithmicTicks(unit).tick_values(1e-9, 1e9)
        assert 2 <= len(places) <= MOST_TICKS
        assert all(second > 1.5 * first for first, second in itertools.pairwise(places))


def test_one_wide_interval_does_not_hide_the_other_values():
    axes = Figure().add_subplot()
    shown = [Interval(value=0.7, low=0.69, high=0.71), Interval(value=0.9, low=-5.0, high=7.0)]
    fit(axes, "y", shown)
    low, high = axes.get_ylim()
    assert 0.55 < low < 0.6
    assert 1.0 < high < 1.05
    before = axes.get_xlim()
    fit(axes, "x", shown[:1])
    assert axes.get_xlim() == before


def test_a_logarithmic_axis_keeps_its_limits():
    axes = Figure().add_subplot()
    axes.plot([1, 1000], [0, 1])
    measure(axes, "x", Axis(label="x"), [1, 1000])
    before = axes.get_xlim()
    fit(axes, "x", [Interval(value=1.0), Interval(value=1000.0)])
    assert axes.get_xlim() == before
