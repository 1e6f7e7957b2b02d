"""What a run says."""

from __future__ import annotations

import pytest

from peftlab.console import clock


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3661, "1:01:01")])
def test_times_are_written_as_on_a_clock(seconds, shown):
    assert clock(seconds) == shown


@pytest.mark.parametrize(("seconds", "expected"), [(5, "0:05"), (65, "1:05"), (3665, "1:01:05")])
def test_a_time_is_read_at_a_glance(seconds, expected):
    assert clock(seconds) == expected
