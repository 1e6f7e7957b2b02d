"""Times and windows."""

from __future__ import annotations

import pytest

from peftlab.opinion.times import Clock, duration, moment


def test_moments():
    assert moment("1970-01-02", "UTC") == 86400
    assert moment("1970-01-01T01:00:00+01:00", "UTC") == 0
    assert moment("1970-07-01T00:00", "Europe/Berlin") == 181 * 86400 - 3600
    assert moment("1767225600", "UTC") == moment(1767225600000, "UTC") == moment("2026-01-01T00:00:00Z", "UTC")
    assert moment("1710120112345", "UTC") == 1710120112.345
    for bad in ("yesterday", "", None, True, float("nan"), -1, {}):
        with pytest.raises(ValueError, match="no time"):
            moment(bad, "UTC")


def test_durations():
    assert [duration(text) for text in ("90s", "15m", "1h", "2d", "1w")] == [90, 900, 3600, 172800, 604800]
    with pytest.raises(ValueError, match="1d or 1w"):
        duration("a day")


def test_weeks_begin_on_mondays():
    clock = Clock(7 * 86400, "UTC")
    assert clock.start(clock.window(moment("2026-03-04", "UTC"))).isoformat() == "2026-03-02T00:00:00+00:00"


def test_days_begin_at_midnight_in_their_zone_whatever_their_length():
    clock = Clock(86400, "Europe/Berlin")
    before = clock.window(moment("2026-03-29T00:30:00+01:00", "UTC"))  # clocks go forward on this day
    assert clock.window(moment("2026-03-29T23:30:00+02:00", "UTC")) == before
    assert clock.window(moment("2026-03-30T00:30:00+02:00", "UTC")) == before + 1
    assert clock.end(before) - clock.start(before).timestamp() == 23 * 3600


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
@pytest.mark.parametrize("never", ["0001-01-01T00:00Z", "9999-12-31T00:00Z"])
def test_dates_that_stand_for_never_lie_in_no_window(never, zone):
    with pytest.raises(ValueError, match="too near to the year 1"):
        Clock(86400, zone).window(moment(never, zone))
