"""What a run says."""

from __future__ import annotations

import pytest

from peftlab.console import clock


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0:00"),
        (5, "0:05"),
        (59.6, "1:00"),
        (65, "1:05"),
        (3599, "59:59"),
        (3661, "1:01:01"),
        (3665, "1:01:05"),
    ],
)
def test_times_are_written_as_on_a_clock(seconds, shown):
    assert clock(seconds) == shown
