from __future__ import annotations

import itertools

import pytest

from peftlab.report.drawing.scales import MOST_TICKS, LinearTicks, LogarithmicTicks


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
