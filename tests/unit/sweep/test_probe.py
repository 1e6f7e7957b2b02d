"""What a probe of a trial says about others."""

from __future__ import annotations

import pytest

from peftlab.sweep.probe import MOST_PACKED, trials_that_fit

GIB = 2**30


@pytest.mark.parametrize(
    ("total", "shared", "own", "expected"),
    [
        (80 * GIB, GIB // 10, GIB, MOST_PACKED),
        (16 * GIB, GIB, 3 * GIB, 3),  # 12.8 GiB may be used, 11.8 of them by what each needs
        (16 * GIB, 10 * GIB, 5 * GIB, 1),  # not even one, by this account, but it has just run
        (16 * GIB, GIB, 0, MOST_PACKED),
    ],
)
def test_as_many_trials_as_there_is_memory_for(total, shared, own, expected):
    assert trials_that_fit(total, shared, own) == expected
