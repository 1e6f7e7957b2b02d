from __future__ import annotations

import pytest

from peftlab.report.drawing.quantities import MINUS, Axis, Interval, check_lengths, ticks, written


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.91237, "percent", "91.24"),
        (-0.0027, "percent", f"{MINUS}0.27"),
        (294_912, "count", "295 k"),
        (107_719_689, "count", "108 M"),
        (7.24e9, "count", "7.24 B"),
        (0, "count", "0"),
        (12, "count", "12"),
        (95, "seconds", "1.58 min"),
        (0.02, "seconds", "20 ms"),
        (7200, "seconds", "2 h"),
        (3 * 2**29, "bytes", "1.5 GiB"),
        (2.5e15, "flops", "2.5 PFLOP"),
        (7.2e6, "joules", "2 kWh"),
        (12.5, "money", "12.5"),
        (0.0002, "plain", "2e-4".replace("-", MINUS)),
        (0.001, "plain", "0.001"),
        (12345, "plain", "12,345"),
        (-3, "plain", f"{MINUS}3"),
    ],
)
def test_numbers_are_written_as_a_reader_has_them(value, unit, text):
    assert written(value, unit) == text


def test_ticks_are_short():
    assert [ticks(value, "percent") for value in (0.9, 0.925, -0.05)] == ["90", "92.5", f"{MINUS}5"]


def test_an_interval_is_written_where_it_is_known():
    axis = Axis(label="F1", unit="percent")
    assert Interval(value=0.9, low=0.89, high=0.91).written(axis) == "90.00 % [89.00, 91.00]"
    assert Interval(value=0.9).written(axis) == "90.00 %"
    assert Interval(value=0.9).ends == (0.9, 0.9)


def test_scales_are_logarithmic_where_values_ask_for_it_and_allow_it():
    axis = Axis(label="Parameters")
    assert axis.is_logarithmic([1, 20])
    assert not axis.is_logarithmic([1, 19])
    assert not axis.is_logarithmic([0, 1000])
    assert not axis.is_logarithmic([-1, 1000])
    assert not axis.is_logarithmic([])
    assert Axis(label="x", log=True).is_logarithmic([1, 2])
    assert not Axis(label="x", log=False).is_logarithmic([1, 1000])
    assert not Axis(label="x", unit="percent").is_logarithmic([0.01, 0.9])
    assert not axis.linear().is_logarithmic([1, 1000])


def test_lists_that_do_not_belong_together_are_refused():
    check_lengths(x=[1, 2], y=[3, 4], z=None)
    with pytest.raises(ValueError, match="x 2, y 1"):
        check_lengths(x=[1, 2], y=[3])
